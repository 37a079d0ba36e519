"""What hooks share that attach something to a model for a while."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any
from weakref import WeakSet

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner


class CleaningHook(Hook, ABC):
    """Leaves nothing attached to a model, however a loop ends.

    MMEngine calls no hook where a loop ends by an error or Ctrl-C.
    """

    def __init__(self) -> None:
        self._guarded: WeakSet[BaseLoop] = WeakSet()

    def before_run(self, runner: Runner) -> None:
        """See to it that loops clean up."""
        # The properties would build loops that nobody wants.
        for name in ('_train_loop', '_val_loop', '_test_loop'):
            loop = getattr(runner, name, None)
            if isinstance(loop, BaseLoop) and loop not in self._guarded:
                self._guarded.add(loop)
                loop.run = self._closing(loop.run)

    def _closing(self, run: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(run)
        def closing(*args: Any, **kwargs: Any) -> Any:
            try:
                return run(*args, **kwargs)
            except BaseException:
                self._take_off()
                raise

        return closing

    @abstractmethod
    def _take_off(self) -> None:
        """Take off whatever is attached."""
