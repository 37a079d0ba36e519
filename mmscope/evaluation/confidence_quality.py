"""What the confidence knows about who gains from refinement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmscope.evaluation.curves import (
    NUM_DRAWS,
    curve_rows,
    plain,
    quantile_thresholds,
)
from mmscope.evaluation.endpoint_images import BothEnds

# Thresholds at which kinds of confidence are compared.
KIND_QUANTILES = 19


def confidence_quality(ends: BothEnds) -> dict:
    """Ask whether the confidence knows who gains from refinement.

    Args:
        ends (BothEnds): Images scored at both exits.

    Returns:
        dict: For each per-image score, ``pearson`` and ``spearman`` of the
        confidence with the gain (a useful confidence: negative) and with the
        coarse score (positive), and the mean gain.
    """
    coarse = ends.scored.per_image('coarse')
    found = {}
    for name, gain in ends.gains().items():
        known = ~np.isnan(gain)
        confidence = ends.confidence[known]
        found[name] = {
            'mean_gain': plain(gain[known].mean()) if known.any() else None,
            'gain': correlations(confidence, gain[known]),
            'coarse_score': correlations(confidence, coarse[name][known]),
        }
    return found


def correlations(x: np.ndarray, y: np.ndarray) -> dict[str, float | None]:
    """Correlate two variables linearly and by rank.

    Args:
        x (np.ndarray): (n,).
        y (np.ndarray): (n,).

    Returns:
        dict[str, float | None]: ``pearson`` and ``spearman``; None where one
        variable does not vary.
    """
    return {
        'pearson': _pearson(x, y),
        'spearman': _pearson(_ranks(x), _ranks(y)),
    }


def order_quality(rows: list[dict], name: str) -> float | None:
    """Place the gate between random exits (0) and the oracle (1).

    Args:
        rows (list[dict]): Curve from :func:`curve_rows`.
        name (str): Name of the score.

    Returns:
        float | None: Area between the curve and the random one over the
        exit ratio, as a share of the oracle's; None if order cannot matter.
    """
    if any(row[name] is None for row in rows):
        return None
    ratios = np.array([row['exit_ratio'] for row in rows])
    random, own, oracle = (
        np.array([row[key] for row in rows])
        for key in ('random', name, 'oracle')
    )
    room = _area(ratios, oracle - random)
    if abs(room) < 1e-9:
        return None
    return float(_area(ratios, own - random) / room)


def compare_kinds(
    ends: BothEnds, num_draws: int = NUM_DRAWS, seed: int = 0
) -> list[dict]:
    """Ask which kind of confidence would order the exits best.

    Args:
        ends (BothEnds): Images scored at both exits.
        num_draws (int): Random exits to compare with. Defaults to 50.
        seed (int): Seed of the random exits. Defaults to 0.

    Returns:
        list[dict]: ``kind``, ``pearson`` and ``spearman`` with the gain, and
        ``order_quality``, one a kind.
    """
    gain = ends.primary_gain()
    compared = []
    for kind, confidence in ends.kinds.items():
        other = replace(ends, confidence=confidence)
        thresholds = quantile_thresholds(confidence, KIND_QUANTILES)
        rows = curve_rows(other, thresholds, num_draws, seed)
        quality = order_quality(rows, ends.scored.name)
        found = {**correlations(confidence, gain), 'order_quality': quality}
        compared.append({'kind': kind, **found})
    return compared


def _area(x: np.ndarray, y: np.ndarray) -> float:
    # The rows run from everyone exits down to nobody.
    return float(((x[:-1] - x[1:]) * (y[1:] + y[:-1]) / 2).sum())


def _pearson(x: np.ndarray, y: np.ndarray) -> float | None:
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Rank values from 0; ties share their mean rank."""
    _, group, sizes = np.unique(
        values, return_inverse=True, return_counts=True
    )
    last = np.cumsum(sizes)
    return (last - (sizes + 1) / 2)[group]
