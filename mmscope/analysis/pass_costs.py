"""What one pass of any backbone costs, counted once for each image size.

Backbones of ours have closed forms; others are run without values (on the
``meta`` device), where they can be, and every operator is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mmscope.analysis.costs import (
    StageCosts,
    exit_head_macs,
    first_grid,
    stage_costs,
)
from mmscope.analysis.op_trace import OpTrace
from mmscope.models import ExitOnly, Observed, TokenBackbone, observe
from mmscope.models.layers import Record, in_evaluation, unwrap_model
from mmscope.models.scoping import (
    ExitRecord,
    PassRecord,
    WholeImageRecord,
)

# Costs follow from sizes alone, so they never grow old.
_counted: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], int]]
_counted = WeakKeyDictionary()


def pass_macs(
    backbone: nn.Module,
    shape: tuple[int, int],
    convention: str = 'paper',
    in_channels: int = 3,
) -> int:
    """Count the MACs of one image in one pass of a backbone.

    Args:
        backbone (nn.Module): Any backbone of one stage.
        shape (tuple[int, int]): Image (height, width) in pixels.
        convention (str): 'paper' or 'exact'; they differ for backbones of
            ours alone. Defaults to 'paper'.
        in_channels (int): Channels of the image. Defaults to 3.

    Returns:
        int: MACs.

    Raises:
        ValueError: If the convention is unknown.
    """
    if isinstance(backbone, TokenBackbone):
        grid = first_grid(backbone, shape)
        return stage_costs(backbone, grid, convention).full
    known = _counted.setdefault(backbone, {})
    size = (1, in_channels, *shape)
    if size not in known:
        known[size] = _count(backbone, size)
    return known[size]


def _count(backbone: nn.Module, size: tuple[int, ...]) -> int:
    weight = next(backbone.parameters(), torch.empty(0))
    with in_evaluation(backbone):
        try:
            return _traced(
                backbone, _on_meta(backbone), weight.to('meta'), size
            )
        # Some operators have no rule for tensors without values.
        except Exception:
            return _traced(backbone, backbone, weight, size)


def _traced(
    backbone: nn.Module,
    run: Callable[[Tensor], object],
    like: Tensor,
    size: tuple[int, ...],
) -> int:
    with torch.no_grad(), OpTrace(backbone) as trace:
        run(like.new_zeros(size))
    return sum(call.cost or 0 for call in trace.calls)


def _on_meta(backbone: nn.Module) -> Callable[[Tensor], object]:
    entries = (*backbone.named_parameters(), *backbone.named_buffers())
    values = {name: value.to('meta') for name, value in entries}
    return lambda imgs: functional_call(backbone, values, (imgs,))


def exit_only_costs(
    backbone: ExitOnly,
    shape: tuple[int, int],
    regions: int,
    convention: str = 'paper',
) -> StageCosts:
    """Count what one image costs in each pass of a wrapped backbone.

    Args:
        backbone (ExitOnly): It.
        shape (tuple[int, int]): Image (height, width) in pixels.
        regions (int): Cells of the last coarse map.
        convention (str): See :func:`pass_macs`. Defaults to 'paper'.

    Returns:
        StageCosts: MACs, the exit head's with the coarse pass.

    Raises:
        ValueError: If the convention is unknown.
    """
    height, width = shape
    coarse, fine = (
        pass_macs(backbone.backbone, size, convention, backbone.in_channels)
        for size in (backbone.coarse_size(shape), (height, width))
    )
    return StageCosts(coarse + exit_head_macs(backbone, regions), fine, 0)


def record_costs(
    backbone: Any,
    record: ExitRecord,
    convention: str = 'paper',
    refine_ratio: float | None = None,
) -> StageCosts:
    """Compute the MACs of an image of a recorded forward in each stage.

    Neck and heads are left out. Raises ValueError if the convention is
    unknown.
    """
    if not isinstance(record, WholeImageRecord):
        return stage_costs(backbone, record.grid, convention, refine_ratio)
    regions = record.grid[0] * record.grid[1]
    return exit_only_costs(backbone, record.image_size, regions, convention)


@contextmanager
def observe_any(model: nn.Module) -> Iterator[list[Record]]:
    """Observe a model with any backbone, see :func:`observe`.

    A backbone of another project, which records nothing, is watched: a
    :class:`PassRecord` a forward.
    """
    host: Any = unwrap_model(model)
    if any(isinstance(part, Observed) for part in host.modules()):
        with observe(model) as records:
            yield records
        return
    passes: list[Record] = []

    def note(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        passes.append(PassRecord.of(args[0], output))

    handle = host.backbone.register_forward_hook(note)
    try:
        yield passes
    finally:
        handle.remove()
