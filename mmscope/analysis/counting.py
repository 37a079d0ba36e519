"""A model's cost, counted operator by operator in a real forward."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from mmscope.analysis.breakdown import CostBreakdown
from mmscope.analysis.costs import DIRECTIONS
from mmscope.analysis.op_trace import OpTrace
from mmscope.models import (
    ExitOnly,
    TokenBackbone,
    TokenReduction,
    at_threshold,
    is_two_stage,
)
from mmscope.models.layers import holding, in_evaluation
from mmscope.ops import composed

# A threshold that no confidence reaches: the gate runs, nobody exits.
NOBODY_EXITS = 2.0


def count_costs(
    model: nn.Module,
    shape: tuple[int, int],
    refine_ratio: float | None = None,
    run: Callable[[Tensor], object] | None = None,
) -> CostBreakdown:
    """Run a model with any backbone on one image and count.

    Nobody exits, so both stages run, and the gate with them.

    Args:
        model (nn.Module): Host model.
        shape (tuple[int, int]): Image (height, width) in pixels.
        refine_ratio (float | None): Fraction of the regions refined; None
            for the backbone's own. Defaults to None.
        run (Callable | None): Runs the model on images (1, C, H, W); None
            calls ``model(imgs, mode='tensor')``, which is backbone, neck and
            heads in mmseg and mmpretrain. Defaults to None.

    Returns:
        CostBreakdown: Everything that ran.

    Raises:
        ValueError: If the shape is not two positive integers, or every image
            refines its own number of regions and no ratio is given.
    """
    check_shape(shape)
    backbone: Any = model.backbone
    if is_two_stage(backbone) and backbone.by_coverage:
        # It says what is missing.
        backbone.regions_to_refine(1, refine_ratio)
    weight = next(backbone.parameters())
    imgs = weight.new_zeros(1, image_channels(model), *shape)
    trace = OpTrace(model, backbone)
    # Each part of a mixer has to run by itself to be seen.
    alone = composed()
    reduction = getattr(backbone, 'reduction', None)
    everything = nullcontext()
    if reduction is not None:
        everything = reduction.skipping_nothing(backbone)
    with nobody_exits(model, refine_ratio), torch.no_grad(), alone, everything:
        with trace:
            run(imgs) if run else model(imgs, mode='tensor')
    return CostBreakdown(
        trace.calls,
        'backbone.',
        is_two_stage(backbone),
        classifies(model),
        {} if reduction is None else _declared(reduction, backbone, shape),
        1.0 if reduction is None else reduction.direction_share(),
    )


def image_channels(model: nn.Module) -> int:
    """Find the channels of a model's images.

    Those of a backbone of ours, else those that the data preprocessor
    normalises, else 3.
    """
    if isinstance(model.backbone, (TokenBackbone, ExitOnly)):
        return model.backbone.in_channels
    mean = getattr(getattr(model, 'data_preprocessor', None), 'mean', None)
    return 3 if mean is None else len(mean)


def classifies(model: nn.Module) -> bool:
    """Tell a classifier, whose head belongs to every stage that runs.

    Neck and heads of dense tasks are ``shared``.
    """
    gives = getattr(model.backbone, 'out_type', None)
    if isinstance(model.backbone, (TokenBackbone, ExitOnly)):
        return gives != 'featmap'
    return getattr(model, 'head', None) is not None


def _declared(
    reduction: TokenReduction, backbone: TokenBackbone, shape: tuple[int, int]
) -> dict[str, int]:
    patches = math.prod(backbone.grid_of(shape))
    return {
        name: reduction.extra_macs(backbone, patches, directions)
        for name, directions in DIRECTIONS.items()
    }


def check_shape(shape: tuple[int, int]) -> None:
    """Refuse, by ValueError, what is no (height, width) in pixels."""
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f'shape is (height, width) in pixels, got {shape}')


@contextmanager
def nobody_exits(
    model: nn.Module,
    refine_ratio: float | None = None,
    eta: float | None = NOBODY_EXITS,
) -> Iterator[None]:
    """Let every image of an evaluation run through both stages.

    ``refine_ratio`` holds meanwhile; at an ``eta`` of None the gate does not
    run either. The model is left as it was.
    """
    with ExitStack() as changes:
        changes.enter_context(in_evaluation(model))
        if is_two_stage(model):
            backbone = changes.enter_context(at_threshold(model, eta))
            if refine_ratio is not None:
                refining = holding(
                    backbone, refine_ratio=refine_ratio, selection=True
                )
                changes.enter_context(refining)
        yield
