"""Settings of models and their parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from numbers import Integral, Real
from threading import RLock, Thread, current_thread
from typing import Any, TypeGuard
from weakref import WeakKeyDictionary

from torch import nn

# Outside the modules, so that no copy meets them: the thread that is inside
# of `one_thread`, as often as it is.
_inside: WeakKeyDictionary[nn.Module, list[Thread]] = WeakKeyDictionary()
# Again and again in one thread: a generator may be thrown away at any time.
_changing = RLock()


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a setting is a real number; True and NaN are none."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    return not math.isnan(value)


def check_whole(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number that is not too small, else raise."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least:
        raise ValueError(
            f'{name} must be a whole number of at least {least}, got {value!r}'
        )
    return int(value)


def check_rate(name: str, value: Any) -> float:
    """Return a number in [0, 1), else raise."""
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f'{name} must lie in [0, 1), got {value!r}')
    return value


def check_weight(name: str, value: Any) -> float:
    """Return the weight of a loss, a finite number >= 0, else raise."""
    if not is_number(value) or not 0 <= value < math.inf:
        raise ValueError(f'{name} must be a finite number >= 0, got {value!r}')
    return value


@contextmanager
def holding(owner: Any, **settings: Any) -> Iterator[None]:
    """Give an object other settings for a while.

    Args:
        owner (Any): Module or plain object; it is left as it was, also where
            a setting replaces another one.
        **settings (Any): Attributes and their values, set in this order.

    Yields:
        None: The settings hold inside.
    """
    before = dict(vars(owner))
    try:
        for name, value in settings.items():
            setattr(owner, name, value)
        yield
    finally:
        vars(owner).update(before)
        for name in settings.keys() - before.keys():
            vars(owner).pop(name, None)


@contextmanager
def one_thread(module: nn.Module) -> Iterator[Callable[[], None]]:
    """Keep other threads from changing a module's settings for a while.

    The same thread may enter again.

    Args:
        module (nn.Module): Backbone, whose settings are all threads'.

    Yields:
        Callable: For generators: another thread that goes on with what is
        inside calls it first, and is the one thread from then on.

    Raises:
        RuntimeError: If another thread is inside.
    """
    _enter(module, 1)
    try:
        yield partial(_enter, module, 0)
    finally:
        with _changing:
            _inside[module].pop()


def _enter(module: nn.Module, times: int) -> None:
    here = current_thread()
    with _changing:
        inside = _inside.setdefault(module, [])
        if inside and inside[0] is not here and len(inside) + times > 1:
            raise RuntimeError(
                f'thread {inside[0].name!r} uses the settings of this '
                f'{type(module).__name__}, and {here.name!r} would change '
                'them: give each thread a model of its own '
                '(copy.deepcopy(model)), or wait until the other is done; '
                'an engine is done when its stream ended or was closed, an '
                'EngineServer when it was closed'
            )
        inside[:] = [here] * (len(inside) + times)


@contextmanager
def in_evaluation(*models: nn.Module) -> Iterator[None]:
    """Put modules in evaluation mode for a while.

    Each of their parts is left as it was: one that somebody froze in a model
    that trains stays frozen.
    """
    before = [
        (module, module.training)
        for model in models
        for module in model.modules()
    ]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for module, training in before:
            module.training = training
