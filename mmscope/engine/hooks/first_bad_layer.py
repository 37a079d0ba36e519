"""Name the layer in which a training's numbers break."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmscope.models.layers import unwrap_model
from mmscope.registry import HOOKS

LATE = ' since an earlier step: --resume before it, with interval=1'


@HOOKS.register_module()
class FirstBadLayerHook(Hook):
    """Stop a training whose loss is not finite, and name the first layer.

    Losses are looked at before the weights change. Where one is NaN or
    infinite, the forward runs once more, and the first module whose output is
    not finite is named. A look waits for the device; between two looks
    weights may break, which the error says: a resumed training meets the same
    batches, so ``--resume`` with ``interval=1`` then finds the step.

    Args:
        interval (int): Steps from one look to the next. Defaults to 50.
    """

    # After hooks that complete the losses.
    priority = 'LOW'

    def __init__(self, interval: int = 50) -> None:
        if interval < 1:
            raise ValueError(f'interval is {interval}, expected at least 1')
        self.interval, self._hooks = interval, ExitStack()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Look at this step's losses, if it is its turn."""
        self._hooks.close()
        if self.every_n_train_iters(runner, self.interval):
            look = partial(self._look, runner.iter + 1)
            model = unwrap_model(runner.model)
            handle = model.register_forward_hook(look, with_kwargs=True)
            self._hooks.callback(handle.remove)

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        """Leave the model as it was."""
        self._hooks.close()

    def _look(
        self, step: int, model: nn.Module, args: tuple, kwargs: dict, out: Any
    ) -> None:
        bad = [k for k, v in out.items() if 'loss' in k and not is_finite(v)]
        if not bad:
            return
        self._hooks.close()
        samples = kwargs.get('data_samples') or []
        images = [str(s.metainfo.get('img_path', '?')) for s in samples]
        raise RuntimeError(
            f'step {step}: {", ".join(bad)} not finite. '
            f'{first_bad(model, args, kwargs)}. Images: {", ".join(images)}'
        )


def first_bad(model: nn.Module, args: tuple, kwargs: dict) -> str:
    """Run a forward again; say which module's output first is not finite."""
    found: list[str] = []

    def look(name: str, part: nn.Module, given: tuple, out: Any) -> None:
        if found or is_finite(out):
            return
        state, good = ('not finite', 'finite'), is_finite([*part.parameters()])
        found.append(
            f'First layer whose output is not: {name} ({type(part).__name__})'
            f'; input {state[is_finite(given)]}, weights {state[good]}'
            f'{"" if good else LATE}'
        )

    with ExitStack() as hooks, torch.no_grad():
        for name, part in model.named_modules():
            if part is not model:
                handle = part.register_forward_hook(partial(look, name))
                hooks.callback(handle.remove)
        model.forward(*args, **kwargs)
    return found[0] if found else 'Every layer gave finite values once more'


def is_finite(values: Any) -> bool:
    """Whether all numbers in tensors, lists and dicts of them are finite."""
    if isinstance(values, Tensor):
        return bool(values.isfinite().all())
    if isinstance(values, dict):
        values = list(values.values())
    return not isinstance(values, (list, tuple)) or all(map(is_finite, values))
