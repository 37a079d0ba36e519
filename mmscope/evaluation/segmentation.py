"""mIoU as sums over images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmscope.evaluation.gated_scores import AdditiveScore


class SegmentationScore(AdditiveScore):
    """mIoU of semantic segmentation.

    Statistics are the areas (intersection, union, label) of each class in
    pixels. Per image, ``mIoU`` averages over the classes that are in its
    ground truth (the same set in both stages), ``aAcc`` is the share of the
    labelled pixels that are right.

    Args:
        num_classes (int): Classes C.
        ignore_index (int): Label that is not scored. Defaults to 255.
    """

    name = 'mIoU'

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def measure(self, sample: Any) -> np.ndarray:
        """Compare a prediction with its ground truth.

        Args:
            sample (SegDataSample): With ``pred_sem_seg`` and ``gt_sem_seg``.

        Returns:
            np.ndarray: Areas, (3 * C,) int64.

        Raises:
            ValueError: If there is no ground truth or its size differs.
        """
        if 'gt_sem_seg' not in sample:
            raise ValueError(
                'the data samples carry no gt_sem_seg to score against; add '
                'LoadAnnotations to the test pipeline'
            )
        pred = sample.pred_sem_seg.data.squeeze(0)
        label = sample.gt_sem_seg.data.squeeze(0).to(pred.device)
        if pred.shape != label.shape:
            raise ValueError(
                f'prediction is {tuple(pred.shape)}, ground truth '
                f'{tuple(label.shape)}; load annotations after the resize '
                'of the test pipeline'
            )
        keep = label != self.ignore_index
        return self.areas(pred[keep], label[keep]).cpu().numpy()

    def areas(self, pred: Tensor, label: Tensor) -> Tensor:
        """Count intersection, union and label of (P,) pixels, (3 * C,)."""

        def count(classes: Tensor) -> Tensor:
            return torch.bincount(classes.long(), minlength=self.num_classes)

        intersect = count(label[pred == label])
        labels = count(label)
        union = count(pred) + labels - intersect
        return torch.cat([intersect, union, labels])

    def total(self, statistics: np.ndarray) -> np.ndarray:
        """Compute the mIoU over the classes that occur, see the base."""
        intersect, union, _ = self._split(statistics)
        return _mean_ratio(intersect, union, union > 0)

    def per_image(self, statistics: np.ndarray) -> pd.DataFrame:
        """Score areas (n, 3 * C): ``mIoU``, ``aAcc`` in percent, n rows."""
        intersect, union, labels = self._split(statistics)
        pixels = labels.sum(-1, keepdims=True)
        right = intersect.sum(-1, keepdims=True)
        return pd.DataFrame(
            {
                'mIoU': _mean_ratio(intersect, union, labels > 0),
                'aAcc': _mean_ratio(right, pixels, pixels > 0),
            }
        )

    def _split(self, statistics: np.ndarray) -> list[np.ndarray]:
        return np.split(np.asarray(statistics, dtype=np.float64), 3, axis=-1)


def _mean_ratio(
    part: np.ndarray, whole: np.ndarray, counted: np.ndarray
) -> np.ndarray:
    ratio = np.where(counted, part / np.where(counted, whole, 1), 0)
    number = counted.sum(-1)
    mean = ratio.sum(-1) / np.maximum(number, 1)
    return np.where(number > 0, 100 * mean, np.nan)
