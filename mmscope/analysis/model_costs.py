"""What a whole host model costs at one input size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from mmscope.analysis.costs import StageCosts, first_grid, stage_costs
from mmscope.analysis.counter import SharedCostCounter
from mmscope.analysis.counting import (
    check_shape,
    count_costs,
    nobody_exits,
)
from mmscope.models import TokenBackbone, is_two_stage


def model_costs(
    model: nn.Module,
    shape: tuple[int, int],
    convention: str = 'paper',
    refine_ratio: float | None = None,
) -> StageCosts:
    """Compute the MACs of one image in a model with any backbone.

    One of ours follows the closed form; neck and heads are counted in a
    real forward, as is everything of other backbones. A classifier's head
    sees the cls token of each stage, so it belongs to both stages; the neck
    and heads of dense tasks are ``shared``.

    Args:
        model (nn.Module): Host model whose ``forward(imgs, mode='tensor')``
            runs backbone, neck and heads (mmseg, mmpretrain).
        shape (tuple[int, int]): Image (height, width) in pixels.
        convention (str): 'paper' or 'exact'. Defaults to 'paper'.
        refine_ratio (float | None): Fraction of the regions refined; None
            for the backbone's own. Defaults to None.

    Returns:
        StageCosts: MACs of each part.

    Raises:
        ValueError: If the shape is not two positive integers.
    """
    check_shape(shape)
    if not isinstance(model.backbone, TokenBackbone):
        return count_costs(model, shape, refine_ratio).costs(convention)
    outside = _count_outside(model, shape)
    return closed_form(model, shape, outside, convention, refine_ratio)


def add_heads(
    costs: StageCosts, backbone: TokenBackbone, outside: int
) -> StageCosts:
    """Add the MACs behind a backbone to the stages that pay for them.

    They are ``shared`` in dense tasks; a classifier's head is run by each
    stage.
    """
    if backbone.out_type == 'featmap':
        return replace(costs, shared=outside)
    coarse = costs.coarse + outside if is_two_stage(backbone) else 0
    return replace(costs, coarse=coarse, fine=costs.fine + outside)


def closed_form(
    model: nn.Module,
    shape: tuple[int, int],
    outside: int,
    convention: str = 'paper',
    refine_ratio: float | None = None,
) -> StageCosts:
    """Compute the MACs of one image without running the backbone.

    Args:
        model (nn.Module): Host model.
        shape (tuple[int, int]): Image (height, width) in pixels.
        outside (int): MACs of neck and heads, counted.
        convention (str): 'paper' or 'exact'. Defaults to 'paper'.
        refine_ratio (float | None): Fraction of the regions refined; None
            for the backbone's own. Defaults to None.

    Returns:
        StageCosts: What :func:`mmscope.analysis.count_costs` must count.

    Raises:
        ValueError: If the convention is unknown.
    """
    backbone: Any = model.backbone
    grid = first_grid(backbone, shape)
    costs = stage_costs(backbone, grid, convention, refine_ratio)
    return add_heads(costs, backbone, outside)


def _count_outside(model: nn.Module, shape: tuple[int, int]) -> int:
    """Run one image and count the MACs outside the backbone."""
    backbone: Any = model.backbone
    weight = next(model.parameters())
    imgs = weight.new_zeros(1, backbone.in_channels, *shape)
    # The gate would run the heads once more.
    alone = nobody_exits(model, eta=None)
    with alone, torch.no_grad(), SharedCostCounter(model, backbone) as counter:
        model(imgs, mode='tensor')
    return counter.total
