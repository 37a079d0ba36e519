"""From both ends of every image to the whole accuracy-cost curve.

Once each image is scored after the coarse and after the fine stage, every
threshold is arithmetic: the images at or above it count with their coarse
predictions, the others with their fine ones.
"""

from __future__ import annotations

import numpy as np

from mmscope.evaluation.endpoint_images import BothEnds

NOBODY_EXITS = 2.0
NUM_DRAWS = 50


def quantile_thresholds(
    confidence: np.ndarray, num_quantiles: int
) -> list[float]:
    """Choose thresholds that let even shares of the images exit.

    Each lies midway between two neighbouring confidences, so that rounding
    in a real run does not move an image to the other side.

    Args:
        confidence (np.ndarray): (n,).
        num_quantiles (int): Thresholds between the two ends; fewer come out
            where confidences tie.

    Returns:
        list[float]: Increasing, from 0 (all exit) to 2 (nobody exits).

    Raises:
        ValueError: If ``num_quantiles`` is negative or a confidence is NaN.
    """
    if num_quantiles < 0:
        raise ValueError(f'num_quantiles is at least 0, got {num_quantiles}')
    if np.isnan(confidence).any():
        raise ValueError('some confidences are NaN; the exit head diverged')
    values = np.unique(confidence.astype(np.float64))
    between = (values[1:] + values[:-1]) / 2
    inner = set()
    if len(between):
        below = np.searchsorted(np.sort(confidence), between)
        ratios = 1 - below / len(confidence)
        wanted = np.arange(1, num_quantiles + 1) / (num_quantiles + 1)
        inner = {float(between[np.abs(ratios - w).argmin()]) for w in wanted}
    return [0.0, *sorted(inner), NOBODY_EXITS]


def curve_rows(
    ends: BothEnds,
    thresholds: list[float],
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> list[dict]:
    """Evaluate every threshold, against random and oracle exits.

    Args:
        ends (BothEnds): Images scored at both exits.
        thresholds (list[float]): Exit thresholds.
        num_draws (int): Random subsets of each size. Defaults to 50.
        seed (int): Seed of the draws. Defaults to 0.

    Returns:
        list[dict]: One row a threshold. ``random`` and ``random_std`` are
        over draws of as many exits; ``oracle`` lets those exit who lose
        least by it. ``exited`` / ``exited_if_refined`` score the exited
        images with their coarse / fine predictions, ``refined`` the others;
        None where there is no such image. Then the score's extras.

    Raises:
        ValueError: If ``num_draws`` is below 1.
    """
    if num_draws < 1:
        raise ValueError(f'num_draws is at least 1, got {num_draws}')
    rng = np.random.default_rng(seed)
    scored, number = ends.scored, len(ends.names)
    by_gain = np.argsort(ends.primary_gain(), kind='stable')
    rows = []
    for threshold in thresholds:
        exits = ends.confidence >= threshold
        count = int(exits.sum())
        drawn = np.argsort(rng.random((num_draws, number)), axis=1)
        random = scored.total(drawn < count)
        oracle = np.zeros(number, dtype=bool)
        oracle[by_gain[:count]] = True
        rows.append(
            {
                'threshold': threshold,
                **expected_columns(ends, exits),
                'random': plain(random.mean()),
                # Equal draws have none, not a rounding error.
                'random_std': plain(random.std() if np.ptp(random) else 0.0),
                'oracle': plain(scored.total(oracle)),
                'exited': _among(ends, exits, exits),
                'exited_if_refined': _among(ends, ends.nobody(), exits),
                'refined': _among(ends, ends.nobody(), ~exits),
            }
        )
    return rows


def expected_columns(ends: BothEnds, exits: np.ndarray) -> dict:
    """Say what a run gives in which these images exit.

    Args:
        ends (BothEnds): Images scored at both exits.
        exits (np.ndarray): Who exits, (n,) bool.

    Returns:
        dict: ``exit_ratio``, the score and its extras in percent (None where
        there is nothing to score), ``mean_tokens`` and costs.
    """
    extras = ends.scored.extras(exits)
    return {
        'exit_ratio': int(exits.sum()) / len(exits),
        ends.scored.name: plain(ends.scored.total(exits)),
        **{name: plain(value) for name, value in extras.items()},
        'mean_tokens': ends.tokens(exits),
        **ends.costs(exits),
    }


def _among(
    ends: BothEnds, exits: np.ndarray, chosen: np.ndarray
) -> float | None:
    if not chosen.any():
        return None
    return plain(ends.scored.total(exits, chosen))


def plain(value: float) -> float | None:
    """Turn a NumPy number into a float, and NaN into None.

    Args:
        value (float): Any real scalar.

    Returns:
        float | None: What JSON can hold.
    """
    return None if np.isnan(value) else float(value)
