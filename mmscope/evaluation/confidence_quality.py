"""Whether the confidence tells who gains from refinement."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.integrate import trapezoid
from scipy.stats import pearsonr, spearmanr

from mmscope.evaluation.classification import NUM_BINS, bin_index
from mmscope.evaluation.curves import NUM_DRAWS, curve, quantile_thresholds
from mmscope.evaluation.endpoint_images import EndpointImages
from mmscope.evaluation.tables import from_records, to_records

# Thresholds at which kinds of confidence are compared.
KIND_QUANTILES = 19


@dataclass
class ConfidenceQuality:
    """What is known of the confidence that decides.

    Args:
        order_quality (float | None): See :func:`order_quality`.
        scores (pd.DataFrame): See :func:`score_correlations`.
        kinds (pd.DataFrame): See :func:`compare_kinds`.
        bins (pd.DataFrame): See :func:`confidence_bins`; empty for what is
            no classifier. Defaults to empty.
    """

    order_quality: float | None
    scores: pd.DataFrame
    kinds: pd.DataFrame
    bins: pd.DataFrame = field(default_factory=pd.DataFrame)

    def to_json(self) -> dict[str, Any]:
        """Give plain numbers, lists and dicts."""
        frames = {
            name: to_records(value)
            for name, value in vars(self).items()
            if isinstance(value, pd.DataFrame) and len(value)
        }
        return {'order_quality': self.order_quality, **frames}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ConfidenceQuality:
        """Read what :meth:`to_json` gave; a ValueError refuses older files."""
        scores = content.get('scores', [])
        if isinstance(scores, dict):
            raise ValueError('it is of an older version: sweep again')
        return cls(
            content.get('order_quality'),
            from_records(scores),
            from_records(content.get('kinds', [])),
            from_records(content.get('bins', [])),
        )


def score_correlations(images: EndpointImages) -> pd.DataFrame:
    """Ask whether the confidence tells who gains from refinement.

    Returns:
        pd.DataFrame: For each per-image ``score``, ``gain_pearson`` and
        ``gain_spearman``, the confidence's correlations with the gain (a
        useful one: negative), ``coarse_score_pearson`` and
        ``coarse_score_spearman`` (positive), and ``mean_gain`` in points.
    """
    coarse, rows = images.scored.per_image('coarse'), []
    for name, gain in images.gains().items():
        known = gain.notna().to_numpy()
        confidence = images.confidence[known]
        row = {'score': name, 'mean_gain': gain.mean()}
        for key, values in (('gain', gain), ('coarse_score', coarse[name])):
            found = correlations(confidence, values[known].to_numpy())
            row |= {f'{key}_{kind}': value for kind, value in found.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def correlations(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Correlate two variables linearly and by rank.

    Args:
        x (np.ndarray): (n,).
        y (np.ndarray): (n,).

    Returns:
        dict[str, float]: ``pearson`` and ``spearman``; NaN where one
        variable does not vary.
    """
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return {'pearson': np.nan, 'spearman': np.nan}
    return {
        'pearson': float(pearsonr(x, y).statistic),
        'spearman': float(spearmanr(x, y).statistic),
    }


def order_quality(rows: pd.DataFrame, score: str) -> float | None:
    """Place the gate between random exits (0) and the oracle (1).

    Returns:
        float | None: Area between the curve and the random one over the
        exit ratio, as a share of the oracle's; None if order cannot matter.
    """
    own, room = (
        trapezoid(rows[name] - rows['random'], rows['exit_ratio'])
        for name in (score, 'oracle')
    )
    if np.isnan(room) or abs(room) < 1e-9:
        return None
    return float(own / room)


def compare_kinds(
    images: EndpointImages, num_draws: int = NUM_DRAWS, seed: int = 0
) -> pd.DataFrame:
    """Ask which kind of confidence would order the exits best.

    Returns:
        pd.DataFrame: ``kind``, ``pearson`` and ``spearman`` with the gain,
        and ``order_quality``, one row a kind.
    """
    gain, rows = images.primary_gain(), []
    for kind, values in images.kinds.items():
        confidence = values.to_numpy()
        table = images.table.assign(confidence=confidence)
        thresholds = quantile_thresholds(confidence, KIND_QUANTILES)
        found = curve(
            replace(images, table=table), thresholds, num_draws, seed
        )
        rows.append(
            {
                'kind': kind,
                **correlations(confidence, gain),
                'order_quality': order_quality(found, images.scored.name),
            }
        )
    return from_records(rows)


def confidence_bins(
    confidence: np.ndarray, coarse: np.ndarray, fine: np.ndarray
) -> pd.DataFrame:
    """Count the images at each confidence, and who is right there.

    Args:
        confidence (np.ndarray): After the coarse stage, (n,).
        coarse (np.ndarray): Coarse score of each image in percent, (n,).
        fine (np.ndarray): Fine score of each image in percent, (n,).

    Returns:
        pd.DataFrame: 15 bins: ``lower``, ``upper``, ``count``,
        ``confidence`` (mean), ``coarse`` and ``fine`` (mean score), NaN in
        an empty bin.
    """
    images = {'confidence': confidence, 'coarse': coarse, 'fine': fine}
    groups = pd.DataFrame(images).groupby(bin_index(confidence))
    bins = np.arange(NUM_BINS)
    edges = {'lower': bins / NUM_BINS, 'upper': (bins + 1) / NUM_BINS}
    count = groups.size().reindex(bins, fill_value=0)
    return pd.DataFrame({**edges, 'count': count}).join(groups.mean())
