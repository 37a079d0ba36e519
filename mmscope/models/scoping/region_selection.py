"""How many regions an image refines, and which."""

from __future__ import annotations

import torch
from torch import Tensor

from mmscope.models.backbones.arguments import check_choice
from mmscope.models.scoping.detail import (
    DETAIL,
    check_coverage,
    count_covering,
)
from mmscope.models.scoping.importance import importance_metrics
from mmscope.models.scoping.layout import FineLayout
from mmscope.models.scoping.scope_settings import CheckedScope
from mmscope.models.scoping.selection import num_refined, split_regions
from mmscope.models.scoping.stages import CoarseStage

REFINE_RATIO = 0.8


class RegionSelection(CheckedScope):
    """A fixed share of the regions, or what holds the lost energy.

    A mixin of :class:`CoarseToFine`. ``selection`` switches it off: then
    every region is refined (training starts so, section 5.1).
    """

    _score_metric: str
    _refine_ratio: float | None
    _refine_coverage: float | None

    def _set_selection(
        self,
        score_metric: str | None,
        refine_ratio: float | None,
        refine_coverage: float | None,
    ) -> None:
        """Choose what matters, and how much: by ratio or by coverage."""
        if refine_coverage is not None and refine_ratio is not None:
            raise ValueError(
                f'refine_coverage={refine_coverage} and refine_ratio='
                f'{refine_ratio} both say how many regions are refined: '
                'set one of them to None'
            )
        self.selection = True
        self._refine_coverage = None
        self.score_metric = score_metric or self.score_metrics[0]
        self.refine_ratio = (
            REFINE_RATIO if refine_ratio is None else refine_ratio
        )
        if refine_coverage is not None:
            self.refine_coverage = refine_coverage

    @property
    def score_metric(self) -> str:
        """What tells which regions matter."""
        return self._score_metric

    @score_metric.setter
    def score_metric(self, value: str) -> None:
        known = importance_metrics(self.score_metrics)
        check_choice('score_metric', value, known)
        if self.refine_coverage is not None and value != DETAIL:
            raise ValueError(
                f'score_metric={value!r} knows no lost energy, of which '
                f'refine_coverage={self.refine_coverage} wants a share: set '
                'refine_coverage to None, or a refine_ratio, before'
            )
        self._score_metric = value

    @property
    def refine_ratio(self) -> float | None:
        """α in [0, 1], the fraction of regions that selection refines.

        None where ``refine_coverage`` decides: of both, the one that is set
        last.
        """
        return self._refine_ratio

    @refine_ratio.setter
    def refine_ratio(self, value: float | None) -> None:
        if value is not None:
            num_refined(value, 1)
            self._refine_coverage = None
        elif self.refine_coverage is None:
            raise ValueError(
                'refine_ratio=None needs a refine_coverage: set that, which '
                'replaces the ratio'
            )
        self._refine_ratio = value

    @property
    def refine_coverage(self) -> float | None:
        """Share of the lost energy that refined regions hold, or None.

        Set to None it leaves the decision to a ``refine_ratio`` of 0.8.
        """
        return self._refine_coverage

    @refine_coverage.setter
    def refine_coverage(self, value: float | None) -> None:
        if value is not None and self.score_metric != DETAIL:
            raise ValueError(
                f'refine_coverage={value} is a share of the lost energy and '
                f'needs score_metric={DETAIL!r}, got {self.score_metric!r}'
            )
        self._refine_coverage = check_coverage(value)
        if value is not None:
            self._refine_ratio = None
        elif self.refine_ratio is None:
            self._refine_ratio = REFINE_RATIO

    def regions_to_refine(
        self, regions: int, refine_ratio: float | None = None
    ) -> int:
        """Count the regions that the fine stage refines; nobody else does.

        Args:
            regions (int): Regions n of the coarse grid.
            refine_ratio (float | None): α to ask about; None for the
                backbone's own, which is 1 while its selection is off.
                Defaults to None.

        Returns:
            int: K.

        Raises:
            ValueError: If every image has its own (``refine_coverage``).
        """
        if refine_ratio is None:
            refine_ratio = self.refine_ratio if self.selection else 1.0
        if refine_ratio is None:
            raise ValueError(
                'with refine_coverage every image refines its own number of '
                'regions: give a refine_ratio to ask about (--refine-ratio), '
                'or sweep data'
            )
        return num_refined(refine_ratio, regions)

    def count_regions(self, importance: Tensor) -> Tensor:
        """Count the regions that each image refines if it goes on.

        Args:
            importance (Tensor): (B, n).

        Returns:
            Tensor: (B,) int64.
        """
        if self.by_coverage:
            assert self.refine_coverage is not None
            return count_covering(importance, self.refine_coverage)
        k = self.regions_to_refine(importance.shape[1])
        return torch.full((len(importance),), k, device=importance.device)

    @property
    def by_coverage(self) -> bool:
        """Whether the number of regions differs between images."""
        return self.selection and self.refine_ratio is None

    def token_counts(
        self, regions: int, refine_ratio: float | None = None
    ) -> tuple[int, int]:
        """Tokens of the coarse stage, and those that going on adds.

        Args:
            regions (int): Regions n of the coarse grid.
            refine_ratio (float | None): See :meth:`regions_to_refine`.

        Returns:
            tuple[int, int]: n + m, and 4K + n - K + m.
        """
        refined = self.regions_to_refine(regions, refine_ratio)
        count = self.summary_tokens.count
        return regions + count, regions + 3 * refined + count

    def layout(self, coarse: CoarseStage, k: int | None = None) -> FineLayout:
        """Choose the regions to refine; all of them without selection.

        Args:
            coarse (CoarseStage): With importance.
            k (int | None): How many; None for the backbone's own number.
                Defaults to None.

        Returns:
            FineLayout: Of the fine sequence.
        """
        if k is None:
            k = self.regions_to_refine(coarse.importance.shape[1])
        refined, kept = split_regions(coarse.importance, k)
        return FineLayout(
            coarse.grid, refined, kept, self.fine_summary, self.token_order
        )
