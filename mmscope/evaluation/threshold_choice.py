"""The threshold that keeps a promise on cost or on accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mmscope.evaluation.curves import NOBODY_EXITS, expected_columns
from mmscope.evaluation.endpoint_images import BothEnds


@dataclass(frozen=True)
class Candidates:
    """Every threshold that makes a difference, from nobody to all exit.

    Args:
        thresholds (np.ndarray): (m,).
        scores (np.ndarray): Data-set score of each in percent, (m,).
        costs (np.ndarray): Mean GMACs an image, (m,).
    """

    thresholds: np.ndarray
    scores: np.ndarray
    costs: np.ndarray


def choose_threshold(
    ends: BothEnds,
    target_flops: float | None = None,
    max_drop: float | None = None,
) -> float:
    """Choose the threshold that fits a cost, or that loses little.

    Args:
        ends (BothEnds): Images scored at both exits.
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
    if ends.confidence is None:
        raise ValueError(
            'the model has no early exit, so there is no threshold to '
            'choose: use a mmscope.MambaScope backbone'
        )
    found = candidates(ends)
    if np.isnan(found.scores).any():
        raise ValueError('the images have nothing to score, so no choice')
    if max_drop is not None:
        # A sum in another order may differ in its last digits.
        least = found.scores[0] - max_drop - 1e-9
        fits = np.flatnonzero(found.scores >= least)
        return float(found.thresholds[_first_least(found.costs, fits)])
    fits = np.flatnonzero(found.costs <= target_flops * (1 + 1e-12))
    if not len(fits):
        raise ValueError(
            f'no threshold costs at most {target_flops:g} GMACs an image: '
            f'possible is {found.costs.min():.5g} (all exit) to '
            f'{found.costs.max():.5g} (nobody exits)'
        )
    best = fits[found.scores[fits] >= found.scores[fits].max() - 1e-9]
    return float(found.thresholds[_first_least(found.costs, best)])


def candidates(ends: BothEnds) -> Candidates:
    """Score every set of exits that some threshold makes.

    Args:
        ends (BothEnds): Images scored at both exits.

    Returns:
        Candidates: One more than there are different confidences.

    Raises:
        ValueError: If a confidence is NaN.
    """
    if np.isnan(ends.confidence).any():
        raise ValueError('some confidences are NaN; the exit head diverged')
    order = np.argsort(-ends.confidence, kind='stable')
    ranked = ends.confidence[order].astype(np.float64)
    number = len(order)
    # The first k exit where the next image is less confident.
    cuts = np.flatnonzero(ranked[:-1] > ranked[1:])
    thresholds = (ranked[cuts] + ranked[cuts + 1]) / 2
    exits = np.concatenate([[0], cuts + 1, [number]])
    macs = _after_first(ends.full_macs, ends.exit_macs, order, exits)
    shared = _after_first(ends.full_shared, ends.exit_shared, order, exits)
    return Candidates(
        np.concatenate([[NOBODY_EXITS], thresholds, [0.0]]),
        ends.scored.after_first(order, exits),
        (macs + shared) / number / 1e9,
    )


def expected_row(ends: BothEnds, threshold: float) -> dict:
    """Evaluate one threshold.

    Args:
        ends (BothEnds): Images scored at both exits.
        threshold (float): Exit threshold.

    Returns:
        dict: The curve's row, without what it is compared with.
    """
    exits = ends.confidence >= threshold
    return {'threshold': threshold, **expected_columns(ends, exits)}


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


def _after_first(
    full: np.ndarray, exit_: np.ndarray, order: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Sum costs over all images where the first of the order exit."""
    change = (exit_ - full)[order].astype(np.float64)
    sums = np.concatenate([[0.0], change.cumsum()])
    return full.sum(dtype=np.float64) + sums[counts]


def _first_least(costs: np.ndarray, chosen: np.ndarray) -> int:
    return int(chosen[costs[chosen].argmin()])
