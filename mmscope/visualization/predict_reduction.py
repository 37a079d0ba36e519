"""How a model's tokens become fewer in images of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn

from mmscope.evaluation.exit_endpoints import evaluating
from mmscope.models import TokenBackbone, is_two_stage, reduces_tokens
from mmscope.models.layers import Record
from mmscope.models.reduction import ReductionStage
from mmscope.visualization.forward import (
    check_indices,
    common_fields,
    read_item,
    run_item,
)
from mmscope.visualization.views import ReductionView, StageView


def predict_reductions(
    model: nn.Module, dataset: Any, indices: Sequence[int]
) -> list[ReductionView]:
    """Run a model on some images and keep what its stages left.

    Raises:
        ValueError: If the backbone has no reduction, or one that tells
            neither what it keeps nor what it merges, an index is outside the
            data set, or an image cannot be read or takes several forwards
            (sliding windows).
    """
    with evaluating(model) as backbone:
        _refuse_unreduced(backbone)
        return [
            _predict_view(model, backbone, dataset, index)
            for index in check_indices(indices, len(dataset))
        ]


def _refuse_unreduced(backbone: nn.Module) -> None:
    if reduces_tokens(backbone):
        return
    name = type(backbone).__name__
    if is_two_stage(backbone):
        raise ValueError(
            f'{name} looks twice and reduces no tokens: show_scope.py draws '
            'where'
        )
    raise ValueError(
        f'{name} reduces no tokens, so there is nothing to draw: take a '
        'config whose backbone has a reduction, or give it one by '
        '--cfg-options model.backbone.reduction.type=mmscope.RMeeTo'
    )


def _predict_view(
    model: nn.Module, backbone: TokenBackbone, dataset: Any, index: int
) -> ReductionView:
    item = read_item(dataset, index)
    with _input_sizes(backbone) as sizes:
        sample, record = run_item(model, item)
    grid = backbone.grid_of(sizes[0])
    stages = [_stage(s, backbone, grid) for s in record.reductions]
    return ReductionView(
        **common_fields(dataset, index, item, sample),
        canvas=backbone.pixels_of(grid),
        tokens=grid[0] * grid[1] + backbone.summary_tokens.count,
        stages=stages,
        directions=_directions(record),
    )


@contextmanager
def _input_sizes(backbone: nn.Module) -> Iterator[list[tuple[int, int]]]:
    """Note (height, width) of what a backbone is given."""
    sizes: list[tuple[int, int]] = []
    handle = backbone.register_forward_pre_hook(
        lambda _, args: sizes.append(tuple(args[0].shape[-2:]))
    )
    try:
        yield sizes
    finally:
        handle.remove()


def _stage(
    stage: ReductionStage, backbone: TokenBackbone, grid: tuple[int, int]
) -> StageView:
    summary = backbone.summary_tokens
    if stage.kept is not None:
        (index,) = _numpy(stage.kept)
        kept = np.zeros(grid, bool)
        kept.flat[index] = True
        return StageView(tokens=len(index) + summary.count, kept=kept)
    if stage.group_of_input is None:
        raise ValueError(
            f'{type(backbone.reduction).__name__} says neither what it kept '
            'nor what it merged: pictures need `kept` or `group_of_input` of '
            'each ReductionStage'
        )
    (group,) = _numpy(stage.group_of_input)
    places = summary.places(grid[0] * grid[1])
    patches = np.delete(group, places)
    return StageView(tokens=int(group.max()) + 1, groups=patches.reshape(grid))


def _directions(record: Record) -> tuple[int, int] | None:
    """Scan directions that ran, of all; None where nobody decided."""
    if all(ran is None for ran in record.directions):
        return None
    ran = sum(2 if x is None else int(x.sum()) for x in record.directions)
    return ran, 2 * len(record.directions)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
