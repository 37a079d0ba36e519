"""The whole threshold curve from one pass over a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mmscope.evaluation.classification import (
    ClassificationScore,
    confidence_bins,
)
from mmscope.evaluation.confidence_quality import (
    compare_kinds,
    confidence_quality,
    order_quality,
)
from mmscope.evaluation.curves import (
    NUM_DRAWS,
    curve_rows,
    expected_columns,
    plain,
    quantile_thresholds,
)
from mmscope.evaluation.endpoint_images import BothEnds
from mmscope.evaluation.exit_endpoints import score_both_ends
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
    ends = score_both_ends(model, dataloader, score, convention)
    return sweep_ends(ends, num_quantiles, convention, num_draws, seed, wanted)


def sweep_ends(
    ends: BothEnds,
    num_quantiles: int = 9,
    convention: str = 'paper',
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    thresholds: Sequence[float] = (),
) -> SweepResult:
    """Evaluate every threshold on images that are scored at both exits.

    Args:
        ends (BothEnds): The images.
        num_quantiles (int): As for :func:`sweep`. Defaults to 9.
        convention (str): How the MACs were counted. Defaults to 'paper'.
        num_draws (int): As for :func:`sweep`. Defaults to 50.
        seed (int): As for :func:`sweep`. Defaults to 0.
        thresholds (Sequence[float]): As for :func:`sweep`. Defaults to none.

    Returns:
        SweepResult: The curve, or one row for a model without early exit.
    """
    images, name = _image_rows(ends), ends.scored.name
    if ends.confidence is None:
        row = {'threshold': None, **expected_columns(ends, ends.nobody())}
        return SweepResult(name, convention, [row], {}, images)
    quantiles = quantile_thresholds(ends.confidence, num_quantiles)
    steps = sorted({*quantiles, *thresholds})
    rows = curve_rows(ends, steps, num_draws, seed)
    quality = {
        'order_quality': order_quality(rows, name),
        'scores': confidence_quality(ends),
        'kinds': compare_kinds(ends, num_draws, seed),
    }
    if name == ClassificationScore.name:
        right = (ends.scored.per_image(stage)[name] for stage in STAGES)
        quality['bins'] = confidence_bins(ends.confidence, *right)
    return SweepResult(name, convention, rows, quality, images)


def check_thresholds(
    model: nn.Module, thresholds: Sequence[float]
) -> list[float]:
    """Check thresholds that a user wants to see.

    Args:
        model (nn.Module): Host model.
        thresholds (Sequence[float]): The thresholds.

    Returns:
        list[float]: The same as floats.

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


def _image_rows(ends: BothEnds) -> list[dict]:
    columns = {'fine': ends.scored.per_image('fine')}
    if ends.confidence is not None:
        columns['coarse'] = ends.scored.per_image('coarse')
        columns['gain'] = ends.gains()
    rows = []
    details = {name: col.tolist() for name, col in ends.details.items()}
    for index, name in enumerate(_short_names(ends.names)):
        row: dict[str, Any] = {'name': name}
        if ends.confidence is not None:
            row['confidence'] = float(ends.confidence[index])
        row.update({key: column[index] for key, column in details.items()})
        for stage, scores in columns.items():
            for key, values in scores.items():
                row[f'{stage}_{key}'] = plain(values[index])
        rows.append(row)
    return rows


def _short_names(names: list[str]) -> list[str]:
    """File names, with their folder where it tells images apart."""
    paths = [Path(name) for name in names]
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    return [str(Path(path.parent.name) / path.name) for path in paths]
