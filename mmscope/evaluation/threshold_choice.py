"""The threshold that keeps a promise on cost or on accuracy."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from mmscope.evaluation.curves import NOBODY_EXITS, refuse_nan
from mmscope.evaluation.endpoint_images import EndpointImages

# A sum in another order may differ in its last digits.
ROUNDING = 1e-9


def choose_threshold(
    images: EndpointImages,
    target_flops: float | None = None,
    max_drop: float | None = None,
) -> float:
    """Choose the threshold that fits a cost, or that loses little.

    Args:
        images (EndpointImages): Images scored at both exits.
        target_flops (float | None): Mean GMACs an image at most; the most
            accurate threshold within them is chosen, the cheapest of equals.
            Defaults to None.
        max_drop (float | None): Points that the score may lie below that of
            nobody exiting; the cheapest such threshold is chosen. Defaults
            to None.

    Returns:
        float: Exit threshold, midway between two confidences, 0 or 2.

    Raises:
        ValueError: If not exactly one target is given, it is not a number
            >= 0, the model has no early exit, or no threshold meets it.
    """
    _check_target(target_flops, max_drop)
    if images.confidence is None:
        raise ValueError(
            'the model has no early exit, so there is no threshold to '
            'choose: use a mmscope.MambaScope backbone'
        )
    points = operating_points(images)
    if points['score'].isna().any():
        raise ValueError('the images have nothing to score')
    if max_drop is None:
        points = _within(points, target_flops)
        least = points['score'].max()
    else:
        least = points['score'].iloc[0] - max_drop
    points = points[points['score'] >= least - ROUNDING]
    return float(points['threshold'][points['mean_cost'].idxmin()])


def operating_points(images: EndpointImages) -> pd.DataFrame:
    """Score every set of exits that some threshold makes.

    Returns:
        pd.DataFrame: From nobody to all exit, one row more than there are
        different confidences: ``threshold``, ``score`` of the data set in
        percent, ``mean_cost`` in GMACs an image.

    Raises:
        ValueError: If a confidence is NaN.
    """
    refuse_nan(images.confidence)
    order = np.argsort(-images.confidence, kind='stable')
    ranked = images.confidence[order].astype(np.float64)
    # The first k exit where the next image is less confident.
    cuts = np.flatnonzero(ranked[:-1] > ranked[1:])
    between = (ranked[cuts] + ranked[cuts + 1]) / 2
    exits = np.concatenate([[0], cuts + 1, [len(order)]])
    table = images.table
    full = table['full_macs'] + table['full_shared']
    change = table['exit_macs'] + table['exit_shared'] - full
    saved = np.pad(change.to_numpy()[order].cumsum(), (1, 0))
    return pd.DataFrame(
        {
            'threshold': np.concatenate([[NOBODY_EXITS], between, [0.0]]),
            'score': images.scored.after_first(order, exits),
            'mean_cost': (full.sum() + saved[exits]) / len(order) / 1e9,
        }
    )


def _check_target(target_flops: float | None, max_drop: float | None) -> None:
    if (target_flops is None) == (max_drop is None):
        raise ValueError(
            'exactly one target chooses a threshold: target_flops (mean '
            'GMACs at most) or max_drop (points lost at most), got '
            f'{target_flops} and {max_drop}'
        )
    target = max_drop if target_flops is None else target_flops
    if not (math.isfinite(target) and target >= 0):
        raise ValueError(f'a target is a finite number >= 0, got {target}')


def _within(points: pd.DataFrame, target_flops: float) -> pd.DataFrame:
    """Keep the points that cost no more than that."""
    costs = points['mean_cost']
    fits = costs <= target_flops * (1 + 1e-12)
    if not fits.any():
        raise ValueError(
            f'no threshold costs at most {target_flops:g} GMACs an image: '
            f'possible is {costs.min():.5g} (all exit) to '
            f'{costs.max():.5g} (nobody exits)'
        )
    return points[fits]
