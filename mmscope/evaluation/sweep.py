"""The whole threshold curve from one pass over a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from torch import nn

from mmscope.evaluation.classification import ClassificationScore
from mmscope.evaluation.confidence_quality import (
    ConfidenceQuality,
    compare_kinds,
    confidence_bins,
    order_quality,
    score_correlations,
)
from mmscope.evaluation.curves import (
    NUM_DRAWS,
    curve,
    operating_point,
    quantile_thresholds,
)
from mmscope.evaluation.endpoint_images import EndpointImages
from mmscope.evaluation.exit_endpoints import score_endpoints
from mmscope.evaluation.gated_scores import STAGES, ImageScore
from mmscope.evaluation.sweep_result import SweepResult
from mmscope.evaluation.tasks import default_score
from mmscope.models.layers import unwrap_model
from mmscope.models.scoping import check_threshold, is_two_stage


def sweep(
    model: nn.Module,
    dataloader: Iterable,
    num_quantiles: int = 9,
    score: ImageScore | None = None,
    convention: str = 'paper',
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    thresholds: Sequence[float] = (),
) -> SweepResult:
    """Evaluate every threshold in one pass over the data.

    Args:
        model (nn.Module): Host model with weights, on its device.
        dataloader (Iterable): Test batches for ``model.test_step``.
        num_quantiles (int): Thresholds between all exit and nobody.
            Defaults to 9.
        score (ImageScore | None): Task score; None for
            :func:`default_score`. Defaults to None.
        convention (str): How MACs are counted. Defaults to 'paper'.
        num_draws (int): Random exits to compare with. Defaults to 50.
        seed (int): Seed of the random exits. Defaults to 0.
        thresholds (Sequence[float]): Thresholds wanted beside the quantiles.
            Defaults to none.

    Returns:
        SweepResult: The curve, or one row for a model without early exit.

    Raises:
        ValueError: If the data set is empty or has no ground truth, or a
            threshold is invalid or given for a model without early exit.
        RuntimeError: If an image takes more than one forward (sliding
            windows, test-time augmentation), or the exit head was never
            trained.
    """
    wanted = check_thresholds(model, thresholds)
    score = score or default_score(model, dataloader)
    images = score_endpoints(model, dataloader, score, convention)
    return sweep_images(
        images, num_quantiles, convention, num_draws, seed, wanted
    )


def sweep_images(
    images: EndpointImages,
    num_quantiles: int = 9,
    convention: str = 'paper',
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    thresholds: Sequence[float] = (),
) -> SweepResult:
    """Do the same with images that are scored at both exits."""
    quality, name = None, images.scored.name
    if images.confidence is None:
        nobody = np.zeros(len(images.table), dtype=bool)
        point = {'threshold': np.nan, **operating_point(images, nobody)}
        rows = pd.DataFrame([point])
    else:
        quantiles = quantile_thresholds(images.confidence, num_quantiles)
        steps = sorted({*quantiles, *thresholds})
        rows = curve(images, steps, num_draws, seed)
        quality = ConfidenceQuality(
            order_quality(rows, name),
            score_correlations(images),
            compare_kinds(images, num_draws, seed),
        )
        if name == ClassificationScore.name:
            right = (images.scored.per_image(stage)[name] for stage in STAGES)
            quality.bins = confidence_bins(images.confidence, *right)
    return SweepResult(name, convention, rows, quality, images.details())


def check_thresholds(
    model: nn.Module, thresholds: Sequence[float]
) -> list[float]:
    """Check thresholds that a user wants to see.

    Raises:
        ValueError: If one is no number >= 0, or the model cannot exit.
    """
    if thresholds and not is_two_stage(model):
        name = type(unwrap_model(model).backbone).__name__
        raise ValueError(
            f'thresholds {list(thresholds)} are given, but {name} has no '
            'early exit: leave them out'
        )
    if any(threshold is None for threshold in thresholds):
        raise ValueError(f'a threshold is missing in {list(thresholds)}')
    return [check_threshold(threshold) for threshold in thresholds]
