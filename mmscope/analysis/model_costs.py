"""What a whole host model costs at one input size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmscope.analysis.breakdown import check_shape
from mmscope.analysis.costs import StageCosts, is_two_stage, stage_costs
from mmscope.analysis.counter import SharedCostCounter


def model_costs(
    model: nn.Module,
    shape: tuple[int, int],
    convention: str = 'paper',
    refine_ratio: float | None = None,
) -> StageCosts:
    """Compute the MACs of one image in a model with an mmscope backbone.

    The backbone follows the closed form; neck and heads are counted in a
    real forward. A classifier's head sees the cls token of each stage, so it
    belongs to both stages; the neck and heads of dense tasks are ``shared``.

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
    grid, outside = _trace(model, shape)
    return add_heads(
        stage_costs(model.backbone, grid, convention, refine_ratio),
        model.backbone,
        outside,
    )


def add_heads(
    costs: StageCosts, backbone: nn.Module, outside: int
) -> StageCosts:
    """Add what runs behind a backbone to the stages that pay for it.

    Args:
        costs (StageCosts): The backbone's own.
        backbone (nn.Module): Backbone.
        outside (int): MACs of neck and heads in one forward.

    Returns:
        StageCosts: ``outside`` is ``shared`` in dense tasks; a classifier's
        head is run by each stage.
    """
    if getattr(backbone, 'out_type', 'featmap') != 'cls_token':
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
    backbone = model.backbone
    stride = backbone.stride_patches
    rows, columns = backbone.grid_of(shape)
    grid = (rows // stride, columns // stride)
    costs = stage_costs(backbone, grid, convention, refine_ratio)
    return add_heads(costs, backbone, outside)


def _trace(
    model: nn.Module, shape: tuple[int, int]
) -> tuple[tuple[int, int], int]:
    """Run one image; give the first grid and the MACs outside the backbone."""
    backbone, training = model.backbone, model.training
    weight = next(model.parameters())
    imgs = weight.new_zeros(1, backbone.in_channels, *shape)
    counter = SharedCostCounter(model, backbone)
    threshold = getattr(backbone, 'exit_threshold', None)
    if threshold is not None:
        backbone.exit_threshold = None
    model.eval()
    try:
        with torch.no_grad(), record_patch_grids(backbone) as grids:
            model(imgs, mode='tensor')
    finally:
        counter.remove()
        model.train(training)
        if threshold is not None:
            backbone.exit_threshold = threshold
    return grids[0], counter.total


@contextmanager
def record_patch_grids(
    backbone: nn.Module,
) -> Iterator[list[tuple[int, int]]]:
    """Note the grid of every call of the patch embedding.

    Args:
        backbone (nn.Module): Backbone with ``patch_embed.proj``.

    Yields:
        list[tuple[int, int]]: (H, W) in patches, one a call so far. In
        ``MambaScope`` the coarse grid comes before the fine one.
    """
    grids: list[tuple[int, int]] = []

    def note(_: nn.Module, __: tuple, maps: Tensor) -> None:
        grids.append(tuple(maps.shape[-2:]))

    handle = backbone.patch_embed.proj.register_forward_hook(note)
    try:
        yield grids
    finally:
        handle.remove()
