"""From both ends of every image to the whole accuracy-cost curve.

Once each image is scored after the coarse and after the fine stage, every
threshold is arithmetic: the images at or above it count with their coarse
statistics, the others with their fine ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from mmscope.evaluation.scores import ImageScore

NOBODY_EXITS = 2.0
# Thresholds at which kinds of confidence are compared.
KIND_QUANTILES = 19


@dataclass
class BothEnds:
    """Every image of a data set, scored at both exits.

    Args:
        names (list[str]): Image names.
        confidence (np.ndarray | None): (n,), None without a gate.
        coarse (np.ndarray | None): Statistics after the coarse stage, (n, K).
        fine (np.ndarray): Statistics after the fine stage, (n, K).
        exit_tokens (np.ndarray): Tokens of an image that exits, (n,).
        full_tokens (np.ndarray): Tokens of an image that goes on, (n,).
        exit_macs (np.ndarray): Backbone MACs of an image that exits, (n,).
        full_macs (np.ndarray): Backbone MACs of one that goes on, (n,).
        shared_macs (np.ndarray): MACs of neck and heads, (n,).
        kinds (dict[str, np.ndarray]): Every confidence that the deciding
            head offers, (n,) each. Defaults to {}.
        details (dict[str, np.ndarray]): What the score describes of each
            image, (n,) each. Defaults to {}.
    """

    names: list[str]
    confidence: np.ndarray | None
    coarse: np.ndarray | None
    fine: np.ndarray
    exit_tokens: np.ndarray
    full_tokens: np.ndarray
    exit_macs: np.ndarray
    full_macs: np.ndarray
    shared_macs: np.ndarray
    kinds: dict[str, np.ndarray] = field(default_factory=dict)
    details: dict[str, np.ndarray] = field(default_factory=dict)

    def mixed(self, exits: np.ndarray) -> np.ndarray:
        """Sum the statistics where some images exit.

        Args:
            exits (np.ndarray): Who exits, (..., n) bool.

        Returns:
            np.ndarray: Summed statistics, (..., K).
        """
        # float64 holds pixel counts exactly and has a fast product.
        change = (self.coarse - self.fine).astype(np.float64)
        return self.fine.sum(0) + exits.astype(np.float64) @ change


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
    score: ImageScore,
    thresholds: list[float],
    num_draws: int = 50,
    seed: int = 0,
) -> list[dict]:
    """Evaluate every threshold, against random and oracle exits.

    Args:
        ends (BothEnds): Images scored at both exits.
        score (ImageScore): Task score.
        thresholds (list[float]): Exit thresholds.
        num_draws (int): Random subsets of each size. Defaults to 50.
        seed (int): Seed of the draws. Defaults to 0.

    Returns:
        list[dict]: One row a threshold. ``random`` and ``random_std`` are
        over draws of as many exits; ``oracle`` lets those exit who lose
        least by it. ``exited`` / ``exited_if_refined`` score the exited
        images with their coarse / fine predictions, ``refined`` the others;
        None where there is no such image. Then the score's extras.
    """
    rng = np.random.default_rng(seed)
    number = len(ends.names)
    by_gain = np.argsort(primary_gain(ends, score), kind='stable')
    rows = []
    for threshold in thresholds:
        exits = ends.confidence >= threshold
        count = int(exits.sum())
        drawn = np.argsort(rng.random((num_draws, number)), axis=1)
        mixed = ends.mixed(exits)
        random = score.total(ends.mixed(drawn < count))
        oracle = np.zeros(number, dtype=bool)
        oracle[by_gain[:count]] = True
        rows.append(
            {
                'threshold': threshold,
                'exit_ratio': count / number,
                score.name: plain(score.total(mixed)),
                **extra_scores(score, mixed),
                'mean_tokens': _choose(
                    exits, ends.exit_tokens, ends.full_tokens
                ),
                **mean_costs(ends, exits),
                'random': plain(random.mean()),
                'random_std': plain(random.std()),
                'oracle': plain(score.total(ends.mixed(oracle))),
                'exited': _subset(score, ends.coarse, exits),
                'exited_if_refined': _subset(score, ends.fine, exits),
                'refined': _subset(score, ends.fine, ~exits),
            }
        )
    return rows


def extra_scores(score: ImageScore, statistics: np.ndarray) -> dict:
    """Score a set of images by the names that the score adds to its own.

    Args:
        score (ImageScore): Task score.
        statistics (np.ndarray): Summed statistics, (K,).

    Returns:
        dict: Percent, None where there is nothing to score.
    """
    extras = score.extras(statistics)
    return {name: plain(value) for name, value in extras.items()}


def mean_costs(ends: BothEnds, exits: np.ndarray) -> dict[str, float]:
    """Average the cost of images of which some exit.

    Args:
        ends (BothEnds): Images with their costs.
        exits (np.ndarray): Who exits, (n,) bool.

    Returns:
        dict[str, float]: ``mean_cost`` of the model and ``backbone_cost`` of
        its backbone alone, GMACs an image.
    """
    backbone = _choose(exits, ends.exit_macs, ends.full_macs)
    shared = float(ends.shared_macs.mean())
    return {
        'mean_cost': (backbone + shared) / 1e9,
        'backbone_cost': backbone / 1e9,
    }


def primary_gain(ends: BothEnds, score: ImageScore) -> np.ndarray:
    """Compute what each image gains from the fine stage.

    Args:
        ends (BothEnds): Images scored at both exits.
        score (ImageScore): Task score; its first per-image score is used.

    Returns:
        np.ndarray: Fine minus coarse score in percent points, (n,); 0 where
        an image has nothing to score.
    """
    name = next(iter(score.per_image(ends.fine[:1])))
    return np.nan_to_num(image_gains(ends, score)[name])


def image_gains(ends: BothEnds, score: ImageScore) -> dict[str, np.ndarray]:
    """Compute each image's fine minus coarse score, by every name.

    Args:
        ends (BothEnds): Images scored at both exits.
        score (ImageScore): Task score.

    Returns:
        dict[str, np.ndarray]: Gains in percent points, (n,), NaN where an
        image has nothing to score.
    """
    coarse = score.per_image(ends.coarse)
    fine = score.per_image(ends.fine)
    return {name: fine[name] - coarse[name] for name in fine}


def confidence_quality(ends: BothEnds, score: ImageScore) -> dict:
    """Ask whether the confidence knows who gains from refinement.

    Args:
        ends (BothEnds): Images scored at both exits.
        score (ImageScore): Task score.

    Returns:
        dict: For each per-image score, ``pearson`` and ``spearman`` of the
        confidence with the gain (a useful confidence: negative) and with the
        coarse score (positive), and the mean gain.
    """
    coarse = score.per_image(ends.coarse)
    found = {}
    for name, gain in image_gains(ends, score).items():
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
    ends: BothEnds, score: ImageScore, num_draws: int = 50, seed: int = 0
) -> list[dict]:
    """Ask which kind of confidence would order the exits best.

    Args:
        ends (BothEnds): Images scored at both exits.
        score (ImageScore): Task score.
        num_draws (int): Random exits to compare with. Defaults to 50.
        seed (int): Seed of the random exits. Defaults to 0.

    Returns:
        list[dict]: ``kind``, ``pearson`` and ``spearman`` with the gain, and
        ``order_quality``, one a kind.
    """
    gain = primary_gain(ends, score)
    compared = []
    for kind, confidence in ends.kinds.items():
        other = replace(ends, confidence=confidence)
        thresholds = quantile_thresholds(confidence, KIND_QUANTILES)
        rows = curve_rows(other, score, thresholds, num_draws, seed)
        quality = order_quality(rows, score.name)
        found = {**correlations(confidence, gain), 'order_quality': quality}
        compared.append({'kind': kind, **found})
    return compared


def _area(x: np.ndarray, y: np.ndarray) -> float:
    # The rows run from everyone exits down to nobody.
    return float(((x[:-1] - x[1:]) * (y[1:] + y[:-1]) / 2).sum())


def _choose(
    exits: np.ndarray, if_exits: np.ndarray, if_not: np.ndarray
) -> float:
    return float(np.where(exits, if_exits, if_not).mean())


def _subset(
    score: ImageScore, statistics: np.ndarray, chosen: np.ndarray
) -> float | None:
    if not chosen.any():
        return None
    return plain(score.total(statistics[chosen].sum(0)))


def plain(value: float) -> float | None:
    """Turn a NumPy number into a float, and NaN into None.

    Args:
        value (float): Any real scalar.

    Returns:
        float | None: What JSON can hold.
    """
    return None if np.isnan(value) else float(value)


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
