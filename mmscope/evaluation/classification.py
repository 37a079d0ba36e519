"""Accuracy and calibration as sums over images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mmscope.evaluation.gated_scores import AdditiveScore

NUM_BINS = 15
TOP5_FROM = 6


class ClassificationScore(AdditiveScore):
    """Top-1 accuracy of single-label classification, top-5 and ECE.

    The statistics of an image are (right, right among five, 1, gap in each
    of 15 bins). The bin is that of the predicted class's probability p, the
    gap is right - p. So summed statistics give the expected calibration
    error of any set of exits: sum over the bins of |gap|, over n (Guo et
    al., On Calibration of Modern Neural Networks, Eq. 3).

    Args:
        num_classes (int): Classes C; top-5 needs more than five.

    Raises:
        ValueError: If there are fewer than two classes.
    """

    name = 'top1'

    def __init__(self, num_classes: int) -> None:
        if num_classes < 2:
            raise ValueError(
                f'a classifier has at least 2 classes, got {num_classes}'
            )
        self.num_classes = num_classes
        self.has_top5 = num_classes >= TOP5_FROM

    def measure(self, sample: Any) -> np.ndarray:
        """Compare a prediction with its label.

        Args:
            sample (DataSample): With ``pred_score``, (C,) probabilities, and
                ``gt_label``.

        Returns:
            np.ndarray: Statistics, (18,) float64.

        Raises:
            ValueError: If the label is missing, is not one of the C classes,
                or the scores have another size or are not finite.
        """
        probs, label = self._probs(sample), self._label(sample)
        predicted = int(probs.argmax())
        right = float(predicted == label)
        # The first of equal ones wins, as in argmax.
        five = np.argsort(-probs, kind='stable')[:5]
        gaps = np.zeros(NUM_BINS)
        gaps[bin_index(probs[predicted])] = right - probs[predicted]
        return np.concatenate([[right, float(label in five), 1.0], gaps])

    def total(self, statistics: np.ndarray) -> np.ndarray:
        """Compute top-1 of sums (..., 18) in percent, NaN without images."""
        return _percent(statistics[..., 0], statistics[..., 2])

    def per_image(self, statistics: np.ndarray) -> pd.DataFrame:
        """Score each image by itself: 0 or 100, n rows.

        ``top1``, and ``top5`` of more than five classes.
        """
        found = {'top1': self.total(statistics)}
        if self.has_top5:
            found['top5'] = self._top5(statistics)
        return pd.DataFrame(found)

    def extras(self, statistics: np.ndarray) -> dict[str, np.ndarray]:
        """Compute ``ece``, and ``top5`` of over five classes, in percent."""
        found = {'top5': self._top5(statistics)} if self.has_top5 else {}
        gaps = np.abs(statistics[..., 3:]).sum(-1)
        return {**found, 'ece': _percent(gaps, statistics[..., 2])}

    def describe(
        self, sample: Any
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Keep ``label``; the predicted class ``pred`` and its ``prob``."""
        probs = self._probs(sample)
        predicted = int(probs.argmax())
        return (
            {'label': self._label(sample)},
            {'pred': predicted, 'prob': float(probs[predicted])},
        )

    def _top5(self, statistics: np.ndarray) -> np.ndarray:
        return _percent(statistics[..., 1], statistics[..., 2])

    def _probs(self, sample: Any) -> np.ndarray:
        probs = sample.pred_score.detach().double().cpu().numpy()
        if probs.shape != (self.num_classes,):
            raise ValueError(
                f'a prediction has scores of shape {probs.shape}, expected '
                f'({self.num_classes},), one a class'
            )
        if not np.isfinite(probs).all():
            raise ValueError(
                'a prediction has scores that are not finite: the weights '
                'diverged in training'
            )
        return probs

    def _label(self, sample: Any) -> int:
        if 'gt_label' not in sample:
            raise ValueError(
                'the data samples carry no gt_label to score against: the '
                'data set needs one folder a class or an annotation file'
            )
        label = sample.gt_label
        if label.numel() != 1 or not 0 <= int(label) < self.num_classes:
            raise ValueError(
                f'expected one label in [0, {self.num_classes}) an image, '
                f'got {label.tolist()}'
            )
        return int(label)


def bin_index(prob: np.ndarray | float) -> np.ndarray:
    """Find the bins (k / 15, (k + 1) / 15] of probabilities; 0 is in bin 0."""
    upper = np.ceil(np.asarray(prob, dtype=np.float64) * NUM_BINS)
    return np.clip(upper.astype(np.int64) - 1, 0, NUM_BINS - 1)


def _percent(part: np.ndarray, number: np.ndarray) -> np.ndarray:
    some = number > 0
    return np.where(some, 100 * part / np.where(some, number, 1), np.nan)
