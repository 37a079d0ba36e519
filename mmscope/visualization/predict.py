"""What a model looks at in images of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from mmscope.evaluation.exit_endpoints import evaluating
from mmscope.evaluation.variants import Variant
from mmscope.models import at_threshold, is_two_stage, reduces_tokens
from mmscope.models.layers import unwrap_model
from mmscope.models.scoping import ExitRecord, WholeImageRecord
from mmscope.visualization.forward import (
    check_indices,
    common_fields,
    read_item,
    run_item,
)
from mmscope.visualization.views import ScopeView


def predict_views(
    model: nn.Module,
    dataset: Any,
    indices: Sequence[int],
    others: Sequence[str] = (),
) -> list[ScopeView]:
    """Run a model on some images and keep what it looked at.

    Args:
        model (nn.Module): Model of any host with a two-stage backbone;
            its exit threshold decides who exits.
        dataset (Any): Data set of the same host with the test pipeline, or
            :class:`ImageFiles`.
        indices (Sequence[int]): Images.
        others (Sequence[str]): Metrics of importance that are shown, and
            decide nothing. Defaults to none.

    Returns:
        list[ScopeView]: One an image.

    Raises:
        ValueError: If the backbone has no coarse stage, an index is outside
            the data set, an image cannot be read or takes several forwards
            (sliding windows), or a metric is unknown.
    """
    # Which decides nothing here, and goes with one metric alone.
    free = {'refine_coverage': None}
    variants = [Variant({'score_metric': m, **free}) for m in others]
    with evaluating(model) as backbone:
        _refuse_single_stage(backbone)
        return [
            _predict_view(model, dataset, index, variants)
            for index in check_indices(indices, len(dataset))
        ]


def spread_by_confidence(
    model: nn.Module, dataset: Any, number: int
) -> list[int]:
    """Choose images evenly from the most to the least confident.

    Raises:
        ValueError: If nothing in the model is confident of anything, or see
            :func:`predict_views`.
    """
    _refuse_single_stage(unwrap_model(model).backbone)
    confidences = []
    with at_threshold(model, 0.0):
        for index in range(len(dataset)):
            (view,) = predict_views(model, dataset, [index])
            confidences.append(view.confidence)
    if None in confidences:
        raise ValueError(
            'the model has no exit head, so its images have no confidence: '
            'choose images by their indices'
        )
    return evenly_by(confidences, number)


def evenly_by(confidence: Sequence[float], number: int) -> list[int]:
    """Choose images evenly from the most to the least confident of (n,)."""
    order = np.argsort(-np.asarray(confidence), kind='stable')
    places = np.linspace(0, len(order) - 1, min(number, len(order)))
    return order[places.round().astype(int)].tolist()


def _refuse_single_stage(backbone: nn.Module) -> None:
    if not is_two_stage(backbone):
        reduced = reduces_tokens(backbone)
        raise ValueError(
            f'{type(backbone).__name__} looks at an image only once; scope '
            'pictures need a two-stage one such as mmscope.MambaScope'
            + (', show_reduction.py draws its tokens' if reduced else '')
        )


def _predict_view(
    model: nn.Module,
    dataset: Any,
    index: int,
    variants: Sequence[Variant],
) -> ScopeView:
    item = read_item(dataset, index)
    sample, record = run_item(model, item)
    others = {}
    for variant in variants:
        with variant.applied(model):
            _, other = run_item(model, item)
        others[variant.settings['score_metric']] = _importance(other)
    backbone = unwrap_model(model).backbone
    side = backbone.grid_multiple * backbone.patch_size
    canvas = (record.grid[0] * side, record.grid[1] * side)
    if isinstance(record, WholeImageRecord):
        canvas = record.image_size
    return ScopeView(
        **common_fields(dataset, index, item, sample),
        importance=_importance(record),
        refined=record.refined[0].cpu().numpy(),
        exited=bool(record.exited[0]),
        confidence=(
            None if record.confidence is None else float(record.confidence[0])
        ),
        canvas=canvas,
        threshold=backbone.exit_threshold,
        others=others,
    )


def _importance(record: ExitRecord) -> np.ndarray:
    return record.importance[0].float().cpu().numpy()
