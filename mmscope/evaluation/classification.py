"""Accuracy and calibration as sums over images."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmscope.evaluation.gated_scores import AdditiveScore

NUM_BINS = 15
TOP5_FROM = 6


class ClassificationScore(AdditiveScore):
    """Top-1 accuracy of single-label classification, top-5 and ECE.

    The statistics of an image are (right, right among five, 1, gap in each
    of 15 bins). The bin is that of the predicted class's probability p, the
    gap is right - p. So summed statistics give the expected calibration
    error of any mixture of exits: sum over the bins of |gap|, over n (Guo et
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
        scores, label = self._scores(sample), self._label(sample)
        predicted = int(scores.argmax())
        right = float(predicted == label)
        # The first of equal scores wins, as in argmax.
        five = np.argsort(-scores, kind='stable')[:5]
        return np.concatenate(
            [
                [right, float(label in five), 1.0],
                calibration_gaps(scores[predicted : predicted + 1], right),
            ]
        )

    def total(self, statistics: np.ndarray) -> np.ndarray:
        """Compute the top-1 accuracy.

        Args:
            statistics (np.ndarray): Summed statistics, (..., 18).

        Returns:
            np.ndarray: Percent, (...), NaN without any image.
        """
        return _percent(statistics[..., 0], statistics[..., 2])

    def per_image(self, statistics: np.ndarray) -> dict[str, np.ndarray]:
        """Score each image by itself: 0 or 100.

        Args:
            statistics (np.ndarray): Of each image, (n, 18).

        Returns:
            dict[str, np.ndarray]: ``top1``, and ``top5`` where there are
            more than five classes, (n,).
        """
        found = {'top1': self.total(statistics)}
        if self.has_top5:
            found['top5'] = self._top5(statistics)
        return found

    def extras(self, statistics: np.ndarray) -> dict[str, np.ndarray]:
        """Compute what else is known of a set of images.

        Args:
            statistics (np.ndarray): Summed statistics, (..., 18).

        Returns:
            dict[str, np.ndarray]: ``top5`` where there are more than five
            classes, and ``ece``, both in percent, (...).
        """
        found = {'top5': self._top5(statistics)} if self.has_top5 else {}
        gaps = np.abs(statistics[..., 3:]).sum(-1)
        return {**found, 'ece': _percent(gaps, statistics[..., 2])}

    def describe(self, sample: Any) -> tuple[dict, dict]:
        """Keep true and predicted class, and the latter's probability.

        Args:
            sample (DataSample): As for :meth:`measure`.

        Returns:
            tuple[dict, dict]: ``label``; ``pred`` and ``prob``.
        """
        scores = self._scores(sample)
        predicted = int(scores.argmax())
        return (
            {'label': self._label(sample)},
            {'pred': predicted, 'prob': float(scores[predicted])},
        )

    def _top5(self, statistics: np.ndarray) -> np.ndarray:
        return _percent(statistics[..., 1], statistics[..., 2])

    def _scores(self, sample: Any) -> np.ndarray:
        scores = sample.pred_score.detach().double().cpu().numpy()
        if scores.shape != (self.num_classes,):
            raise ValueError(
                f'a prediction has scores of shape {scores.shape}, expected '
                f'({self.num_classes},), one a class'
            )
        if not np.isfinite(scores).all():
            raise ValueError(
                'a prediction has scores that are not finite: the weights '
                'diverged in training'
            )
        return scores

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


def calibration_gaps(prob: np.ndarray, right: float) -> np.ndarray:
    """Put right - probability in the bin of the probability.

    Args:
        prob (np.ndarray): Probability of the predicted class, (1,).
        right (float): 1 if the prediction is right, else 0.

    Returns:
        np.ndarray: (15,), zero but in one bin.
    """
    gaps = np.zeros(NUM_BINS)
    gaps[bin_index(prob)] = right - prob
    return gaps


def bin_index(prob: np.ndarray) -> np.ndarray:
    """Find the bins (k / 15, (k + 1) / 15] of probabilities; 0 is in bin 0.

    Args:
        prob (np.ndarray): In [0, 1], (n,).

    Returns:
        np.ndarray: (n,) int64 in [0, 15).
    """
    upper = np.ceil(np.asarray(prob, dtype=np.float64) * NUM_BINS)
    return np.clip(upper.astype(np.int64) - 1, 0, NUM_BINS - 1)


def confidence_bins(
    confidence: np.ndarray, coarse: np.ndarray, fine: np.ndarray
) -> list[dict]:
    """Count the images at each confidence, and who is right there.

    Args:
        confidence (np.ndarray): After the coarse stage, (n,).
        coarse (np.ndarray): Coarse score of each image in percent, (n,).
        fine (np.ndarray): Fine score of each image in percent, (n,).

    Returns:
        list[dict]: 15 bins: ``lower``, ``upper``, ``count``, ``confidence``
        (mean), ``coarse`` and ``fine`` (mean score), None in an empty bin.
    """
    index = bin_index(confidence)
    columns = {'confidence': confidence, 'coarse': coarse, 'fine': fine}
    bins = []
    for number in range(NUM_BINS):
        chosen = index == number
        means = {
            name: float(values[chosen].mean()) if chosen.any() else None
            for name, values in columns.items()
        }
        bins.append(
            {
                'lower': number / NUM_BINS,
                'upper': (number + 1) / NUM_BINS,
                'count': int(chosen.sum()),
                **means,
            }
        )
    return bins


def _percent(part: np.ndarray, number: np.ndarray) -> np.ndarray:
    some = number > 0
    return np.where(some, 100 * part / np.where(some, number, 1), np.nan)
