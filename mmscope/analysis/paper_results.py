"""Accuracies of trained models, from the JSON of threshold sweeps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """What a model reached at one threshold.

    Args:
        score (float): Top-1, mIoU or box AP in percent.
        exit_ratio (float): Fraction of the images that left early.
        mask_score (float | None): Mask AP in percent. Defaults to None.
    """

    score: float
    exit_ratio: float
    mask_score: float | None = None


class Results:
    """Sweeps by the name of their run; a missing one gives no point.

    Args:
        sweeps (Mapping[str, dict]): Sweeps, see
            ``mmscope.evaluation.SweepResult.to_dict``.
    """

    def __init__(self, sweeps: Mapping[str, dict] | None = None) -> None:
        self.sweeps = dict(sweeps or {})

    def none_exits(self, key: str | None) -> Point | None:
        """Give the point where every image runs both stages."""
        sweep = self.sweeps.get(key)
        return sweep and self._point(sweep, sweep['rows'][-1])

    def all_exit(self, key: str | None) -> Point | None:
        """Give the point where every image leaves early; none for ViM."""
        sweep = self.sweeps.get(key)
        if sweep is None or len(sweep['rows']) < 2:
            return None
        return self._point(sweep, sweep['rows'][0])

    def nearest(self, key: str | None, exit_ratio: float) -> Point | None:
        """Give the swept point whose exit ratio is nearest."""
        sweep = self.sweeps.get(key)
        if sweep is None:
            return None
        row = min(
            sweep['rows'], key=lambda row: abs(row['exit_ratio'] - exit_ratio)
        )
        return self._point(sweep, row)

    def at(self, key: str | None, threshold: float) -> Point | None:
        """Give the point at one threshold.

        Args:
            key (str | None): Name of the run.
            threshold (float): η.

        Returns:
            Point | None: Of the swept row, else computed from the images;
            None where the data-set score is no mean over images.
        """
        sweep = self.sweeps.get(key)
        if sweep is None:
            return None
        for row in sweep['rows']:
            if row['threshold'] == threshold:
                return self._point(sweep, row)
        return _from_images(sweep, threshold)

    @staticmethod
    def _point(sweep: dict, row: dict) -> Point:
        return Point(
            row[sweep['score']], row['exit_ratio'], row.get('segm_mAP')
        )


def _from_images(sweep: dict, threshold: float) -> Point | None:
    images, score = sweep['images'], sweep['score']
    coarse, fine = f'coarse_{score}', f'fine_{score}'
    if not images or not {coarse, fine, 'confidence'} <= set(images[0]):
        return None
    mean = sum(image[fine] for image in images) / len(images)
    if not math.isclose(mean, sweep['rows'][-1][score], abs_tol=1e-6):
        return None
    exits = [image['confidence'] >= threshold for image in images]
    scores = [
        image[coarse if leaves else fine]
        for image, leaves in zip(images, exits, strict=True)
    ]
    return Point(sum(scores) / len(images), sum(exits) / len(images))
