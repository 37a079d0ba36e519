"""Token importance, collected while the coarse stage runs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmscope.models.layers import (
    PLAIN,
    Mixed,
    MixerPlan,
    Steps,
    TokenSequence,
    accumulate_scores,
)


class Importance(Steps):
    """Running mean of the scores of some blocks (Eq. 11, 12).

    Args:
        metric (str): One of the family's ``score_metrics``.
        layers (Sequence[int]): Scored blocks.
        momentum (float): β of the running mean.
    """

    def __init__(
        self, metric: str, layers: Sequence[int], momentum: float
    ) -> None:
        self.scored = MixerPlan(score=metric)
        self.layers = layers
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
