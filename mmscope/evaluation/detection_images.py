"""Average precision where some images exit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from mmscope.evaluation.average_precision import RankedDetections
from mmscope.evaluation.gated_scores import STAGES
from mmscope.evaluation.matching import ImageMatches, Matches


class DetectionImages:
    """Images whose detections are matched at both exits.

    Each set of exits takes one AP computation; see
    :class:`RankedDetections`.

    Args:
        iou_types (Sequence[str]): 'bbox' and perhaps 'segm'.
        coarse (Sequence[ImageMatches] | None): After the coarse stage.
        fine (Sequence[ImageMatches]): After the fine stage.

    Raises:
        ValueError: If an image comes twice.
    """

    name = 'bbox_mAP'

    def __init__(
        self,
        iou_types: Sequence[str],
        coarse: Sequence[ImageMatches] | None,
        fine: Sequence[ImageMatches],
    ) -> None:
        ids = np.array([image.image_id for image in fine])
        ranked, ranks = np.unique(ids, return_inverse=True)
        if len(ranked) < len(ids):
            raise ValueError(
                f'{len(ids)} images were scored but only {len(ranked)} are '
                'different: use a loader that gives each image once'
            )
        self._matches = {
            iou_type: _StageMatches(
                *(
                    images and [image.by_type[iou_type] for image in images]
                    for images in (coarse, fine)
                ),
                ranks,
            )
            for iou_type in iou_types
        }

    def total(
        self, exits: np.ndarray, among: np.ndarray | None = None
    ) -> np.ndarray:
        """Compute the box AP for any exits; see ``ScoredImages``."""
        matches = self._matches['bbox']
        flat = exits.reshape(-1, exits.shape[-1])
        found = [matches.score(row, among)['mAP'] for row in flat]
        return np.array(found).reshape(exits.shape[:-1])

    def extras(self, exits: np.ndarray) -> dict[str, np.ndarray]:
        """Compute AP at single IoUs and, where they are scored, of masks.

        Of exits (n,), in percent: ``bbox_mAP_50``, ``bbox_mAP_75``,
        ``segm_mAP``, ``segm_mAP_50``, ``segm_mAP_75``.
        """
        found = {
            f'{iou_type}_{name}': value
            for iou_type, matches in self._matches.items()
            for name, value in matches.score(exits).items()
        }
        found.pop(self.name)
        return found

    def after_first(self, order: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Compute the box AP of every beginning of an order."""
        place = np.argsort(order)
        return np.array([self.total(place < count) for count in counts])

    def per_image(self, stage: str) -> pd.DataFrame:
        """Compute ``bbox_mAP`` and ``bbox_mAP_50`` of each image, n rows.

        Of the categories that it has; NaN for an image without objects.
        """
        found = self._matches['bbox'].by_image[stage]
        return found[['mAP', 'mAP_50']].add_prefix('bbox_')


class _StageMatches:
    """All matches of one IoU type, of both stages, in one row."""

    def __init__(
        self,
        coarse: list[Matches] | None,
        fine: list[Matches],
        ranks: np.ndarray,
    ) -> None:
        number = len(fine)
        rows = [*(coarse or []), *fine]
        sizes = [len(row.sure) for row in rows]
        index = np.arange(len(rows))
        self.image = np.repeat(index % number, sizes)
        self.early = np.repeat(index < len(rows) - number, sizes)
        self.labels = np.concatenate([row.labels for row in rows])
        self.objects = np.stack([row.objects for row in fine])
        self._columns = {
            'sure': np.concatenate([row.sure for row in rows]),
            'images': ranks[self.image],
            'hits': np.concatenate([row.hits for row in rows], 1),
            'ignored': np.concatenate([row.ignored for row in rows], 1),
        }
        self._ranked = RankedDetections(
            self.labels, objects=self.objects.sum(0), **self._columns
        )
        # In the order of the ranks: one step less for each set of exits.
        order = self._ranked.order
        self._ranked_image = self.image[order]
        self._ranked_early = self.early[order]

    def score(
        self, exits: np.ndarray, among: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Score the data set, or some of its images; exits (n,) bool."""
        chosen = exits[self._ranked_image] == self._ranked_early
        objects = self.objects
        if among is not None:
            chosen &= among[self._ranked_image]
            objects = objects[among]
        found = self._ranked.precisions(chosen, objects.sum(0))
        known = ~np.isnan(found).any(0)
        if not known.any():
            return _named(np.full(len(found), np.nan))
        return _named(found[:, known].mean(1))

    @cached_property
    def by_image(self) -> dict[str, pd.DataFrame]:
        """Score each image by itself, after either stage, n rows."""
        number, categories = self.objects.shape
        objects = self.objects.reshape(-1)
        ranked = RankedDetections(
            self.image * categories + self.labels,
            objects=objects,
            **self._columns,
        )
        owner, found = ranked.present // categories, {}
        for stage in STAGES:
            chosen = self.early[ranked.order] == (stage == STAGES[0])
            values = pd.DataFrame(_named(ranked.precisions(chosen, objects)))
            found[stage] = values.groupby(owner).mean().reindex(range(number))
        return found


def _named(precisions: np.ndarray) -> dict[str, np.ndarray]:
    """Name averages over the IoUs, (10, ...), in percent."""
    return {
        'mAP': 100 * precisions.mean(0),
        'mAP_50': 100 * precisions[0],
        'mAP_75': 100 * precisions[5],
    }
