"""Importance of regions: from the image, or while the coarse stage runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mmengine.logging import print_log
from torch import Tensor

from mmscope.models.layers import (
    PLAIN,
    Mixed,
    MixerPlan,
    Steps,
    TokenSequence,
    accumulate_scores,
)
from mmscope.models.scoping.detail import DETAIL, rank_sum

AND = f'{DETAIL}_and_'
# β of Eq. 12.
MOMENTUM = 0.99


def importance_metrics(family: Sequence[str]) -> tuple[str, ...]:
    """List what can tell which regions matter, the family's metrics first."""
    return (*family, DETAIL, *(AND + name for name in family[:1]))


def mixer_metric(metric: str) -> str | None:
    """Tell what a metric asks of the mixers: a score's name, or nothing."""
    return None if metric == DETAIL else metric.removeprefix(AND)


def tell_idle(
    metric: str, layers: Sequence[int] | None, momentum: float
) -> None:
    """Warn of settings of scores where the image alone tells what matters.

    Args:
        metric (str): One of :func:`importance_metrics`.
        layers (Sequence[int] | None): Scored blocks, None if not given.
        momentum (float): β of the running mean.
    """
    idle = [] if layers is None else [f'score_layers={layers}']
    if momentum != MOMENTUM:
        idle.append(f'score_momentum={momentum}')
    if mixer_metric(metric) is None and idle:
        print_log(
            f'{" and ".join(idle)} will decide nothing: with '
            f'score_metric={metric!r} no block is scored',
            logger='current',
            level=logging.WARNING,
        )


class Importance(Steps):
    """Running mean of the scores of some blocks (Eq. 11, 12).

    Args:
        metric (str): One of :func:`importance_metrics`.
        layers (Sequence[int]): Scored blocks.
        momentum (float): β of the running mean.
    """

    def __init__(
        self, metric: str, layers: Sequence[int], momentum: float
    ) -> None:
        self.metric = metric
        self.scored = MixerPlan(score=mixer_metric(metric))
        self.layers = layers if self.scored.score else ()
        self.momentum = momentum
        self.average: Tensor | None = None

    def plan(self, i: int, sequence: TokenSequence) -> MixerPlan:
        """Ask the scored blocks for scores."""
        return self.scored if i in self.layers else PLAIN

    def after_block(
        self, i: int, sequence: TokenSequence, mixed: Mixed
    ) -> None:
        """Take them into the mean, (B, L)."""
        if mixed.scores is not None:
            self.average = accumulate_scores(
                self.average, mixed.scores, self.momentum
            )

    def of_regions(
        self, sequence: TokenSequence, detail: Tensor | None
    ) -> Tensor:
        """Put together what was asked for.

        Args:
            sequence (TokenSequence): As the last block left it.
            detail (Tensor | None): What the image tells, (B, n); None where
                nobody asked.

        Returns:
            Tensor: Importance of the n regions, (B, n).
        """
        if self.average is None:
            assert detail is not None
            return detail
        scores = sequence.patches(self.average)
        return scores if detail is None else rank_sum(detail, scores)
