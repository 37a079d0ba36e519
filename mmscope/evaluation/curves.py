"""From both exits of every image to the whole accuracy-cost curve.

Once each image is scored after the coarse and after the fine stage, every
threshold is arithmetic: the images at or above it count with their coarse
predictions, the others with their fine ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmscope.evaluation.endpoint_images import EndpointImages

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
    refuse_nan(confidence)
    values = np.unique(confidence.astype(np.float64))
    between = (values[1:] + values[:-1]) / 2
    inner = set()
    if len(between):
        below = np.searchsorted(np.sort(confidence), between)
        ratios = 1 - below / len(confidence)
        wanted = np.arange(1, num_quantiles + 1) / (num_quantiles + 1)
        inner = {float(between[np.abs(ratios - w).argmin()]) for w in wanted}
    return [0.0, *sorted(inner), NOBODY_EXITS]


def refuse_nan(confidence: np.ndarray) -> None:
    """Refuse NaN, by ValueError."""
    if np.isnan(confidence).any():
        raise ValueError('some confidences are NaN; the exit head diverged')


def curve(
    images: EndpointImages,
    thresholds: Sequence[float],
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """Evaluate every threshold, against random and oracle exits.

    Args:
        images (EndpointImages): Images scored at both exits.
        thresholds (Sequence[float]): Exit thresholds.
        num_draws (int): Random subsets of each size. Defaults to 50.
        seed (int): Seed of the draws. Defaults to 0.

    Returns:
        pd.DataFrame: One row a ``threshold``: the columns of
        :func:`operating_point`; ``random`` and ``random_std`` over draws of
        as many exits; ``oracle``, where those exit who lose least by it;
        ``exited`` and ``exited_if_refined``, the score of the exited images
        with their coarse and fine predictions, and ``refined``, that of the
        others; NaN where there is no such image.

    Raises:
        ValueError: If ``num_draws`` is below 1.
    """
    if num_draws < 1:
        raise ValueError(f'num_draws is at least 1, got {num_draws}')
    rng = np.random.default_rng(seed)
    rank = np.argsort(np.argsort(images.primary_gain(), kind='stable'))
    rows = []
    for threshold in thresholds:
        exits = images.confidence >= threshold
        count = exits.sum()
        drawn = np.argsort(rng.random((num_draws, len(exits))), axis=1)
        random = images.scored.total(drawn < count)
        rows.append(
            {
                'threshold': threshold,
                **operating_point(images, exits),
                'random': random.mean(),
                # Equal draws have none, not a rounding error.
                'random_std': random.std() if np.ptp(random) else 0.0,
                'oracle': float(images.scored.total(rank < count)),
                **_by_exit(images, exits),
            }
        )
    return pd.DataFrame(rows, dtype=np.float64)


def operating_point(
    images: EndpointImages, exits: np.ndarray
) -> dict[str, float]:
    """Say what a run gives in which these images exit.

    Returns:
        dict[str, float]: ``exit_ratio``; the score by its name, and its
        extras, in percent, NaN where there is nothing to score;
        ``mean_tokens``; ``mean_cost`` of the model and ``backbone_cost`` of
        its backbone alone, GMACs an image.
    """
    scored, backbone = images.scored, images.mean('macs', exits)
    found = {
        'exit_ratio': exits.sum() / len(exits),
        scored.name: scored.total(exits),
        **scored.extras(exits),
        'mean_tokens': images.mean('tokens', exits),
        'mean_cost': (backbone + images.mean('shared', exits)) / 1e9,
        'backbone_cost': backbone / 1e9,
    }
    return {name: float(value) for name, value in found.items()}


def _by_exit(images: EndpointImages, exits: np.ndarray) -> dict[str, float]:
    """Score those who exit, by either stage, and those who do not."""
    nobody, total = np.zeros_like(exits), images.scored.total
    found = dict.fromkeys(('exited', 'exited_if_refined', 'refined'), np.nan)
    if exits.any():
        found['exited'] = float(total(exits, exits))
        found['exited_if_refined'] = float(total(nobody, exits))
    if not exits.all():
        found['refined'] = float(total(nobody, ~exits))
    return found
