"""Name the layer in which a training's numbers break."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mmscope.engine.hooks.cleaning import CleaningHook
from mmscope.models.layers import check_whole, unwrap_model
from mmscope.registry import HOOKS

# As many names are read.
SHOWN = 5


@HOOKS.register_module()
class FirstBadLayerHook(CleaningHook):
    """Stop a training whose loss is not finite, and name the first layer.

    Losses are looked at before the weights change. Where one is NaN or
    infinite, weights that are not finite are named, which are the cause. If
    there are none, the forward runs once more, and the first module whose
    output is not finite is named. A look waits for the device; between two
    looks weights may break, which the error says: a resumed training meets
    the same batches, so ``--resume`` with ``interval=1`` then finds the step.

    Args:
        interval (int): Steps from one look to the next. Defaults to 50.

    Raises:
        ValueError: If ``interval`` is no whole number of at least 1.
    """

    # After hooks that complete the losses.
    priority = 'LOW'

    def __init__(self, interval: int = 50) -> None:
        super().__init__()
        self.interval = check_whole('interval', interval)
        self._hooks = ExitStack()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Look at this step's losses, if it is its turn."""
        self._take_off()
        if self.every_n_train_iters(runner, self.interval):
            look = partial(self._look, runner.iter + 1)
            model = unwrap_model(runner.model)
            handle = model.register_forward_hook(look, with_kwargs=True)
            self._hooks.callback(handle.remove)

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        """Leave the model as it was."""
        self._take_off()

    def _take_off(self) -> None:
        self._hooks.close()

    def _look(
        self, step: int, model: nn.Module, args: tuple, kwargs: dict, out: Any
    ) -> None:
        # A step may also predict, of which no losses come.
        losses = out if isinstance(out, dict) else {}
        bad = [k for k, v in losses.items() if 'loss' in k and not finite(v)]
        if not bad:
            return
        self._take_off()
        cause = bad_weights(model) or first_bad(model, args, kwargs, bad)
        samples = kwargs.get('data_samples') or []
        images = [str(s.metainfo.get('img_path', '?')) for s in samples]
        raise RuntimeError(
            f'step {step}: {", ".join(bad)} not finite. {cause}. '
            f'Images: {", ".join(images)}'
        )


def bad_weights(model: nn.Module) -> str:
    """Name parameters and buffers that are not finite; '' if all are."""
    found = [name for name, p in model.named_parameters() if not finite(p)]
    for prefix, part in model.named_modules():
        # Running statistics follow what a layer gets, and are not read.
        if not (isinstance(part, _NormBase) and part.training):
            buffers = part.named_buffers(prefix, recurse=False)
            found += [name for name, b in buffers if has_nan([b])]
    if not found:
        return ''
    more = f' and {len(found) - SHOWN} more' if len(found) > SHOWN else ''
    return (
        f'Weights not finite before this step: {", ".join(found[:SHOWN])}'
        f'{more}. An earlier step broke them, or they were loaded so: '
        '--resume before it, with interval=1'
    )


def first_bad(
    model: nn.Module, args: tuple, kwargs: dict, bad: Sequence[str] = ()
) -> str:
    """Run a forward again; say which module's output first is not finite.

    Args:
        model (nn.Module): Without wrappers.
        args (tuple): Of its forward.
        kwargs (dict): Of its forward.
        bad (Sequence[str]): Losses that are not finite. Defaults to ().

    Returns:
        str: The module; without one, which losses the forward does not give.
    """
    found: list[str] = []

    def look(name: str, part: nn.Module, given: tuple, out: Any) -> None:
        if found or finite(out):
            return
        state, good = ('not finite', 'finite'), not has_nan(part.buffers())
        found.append(
            f'First layer whose output is not: {name} ({type(part).__name__})'
            f'; input {state[finite(given)]}, weights {state[good]}'
        )

    with ExitStack() as hooks, torch.no_grad():
        for name, part in model.named_modules():
            if part is not model:
                handle = part.register_forward_hook(partial(look, name))
                hooks.callback(handle.remove)
        losses = model.forward(*args, **kwargs)
    if found:
        return found[0]
    text = 'Every layer gave finite values once more'
    added = ', '.join(name for name in bad if name not in losses)
    if added:
        text += (
            f', but {added} came from hooks on the model (such as '
            'ConfidenceGateHook), which did not run once more: look at what '
            'computes that, such as backbone.exit_head'
        )
    return text


def has_nan(buffers: Iterable[Tensor]) -> bool:
    """Whether one of them holds NaN; infinity may be a mask."""
    return any(bool(buffer.isnan().any()) for buffer in buffers)


def finite(values: Any) -> bool:
    """Whether all numbers in tensors, lists and dicts of them are finite."""
    if isinstance(values, Tensor):
        return bool(values.isfinite().all())
    if isinstance(values, dict):
        values = list(values.values())
    return not isinstance(values, (list, tuple)) or all(map(finite, values))
