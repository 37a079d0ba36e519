"""What happens between the blocks in one pass, and what a mixer is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from mmscope.models.layers.record import Record
from mmscope.models.layers.token_sequence import TokenSequence


@dataclass(frozen=True)
class MixerPlan:
    """What one mixer shall do beyond mixing.

    Attributes:
        score (str | None): Name of a token score that is wanted, one of the
            family's ``score_metrics`` or ``GATED_METRICS``. Defaults to
            None.
        directions (Callable | None): Maps the input projection's output
            (B, L, 2 * d_inner) to (B, 2), forward and backward: bool skips
            an image's direction, float runs both and multiplies. Defaults to
            None, both for all.
        mask (Tensor | None): (B, L, 1), multiplies input and output of the
            convolution, so that a token with 0 adds nothing to any state.
            Defaults to None.
        gaps (Tensor | None): Idle steps that the states pass before each
            token, in the forward and in the backward scan, (2, B, L) int64.
            Defaults to None.
    """

    score: str | None = None
    directions: Callable[[Tensor], Tensor] | None = None
    mask: Tensor | None = None
    gaps: Tensor | None = None


PLAIN = MixerPlan()


class Mixed(NamedTuple):
    """What a mixer gives.

    ``tokens`` (B, L, D); ``scores`` (B, L), None unless the plan asked;
    ``directions`` (B, 2), what the plan decided, None unless it did.
    """

    tokens: Tensor
    scores: Tensor | None = None
    directions: Tensor | None = None


class Steps:
    """What accompanies a sequence through the blocks.

    An object lives for one pass and holds that pass's state: sizes, scores,
    decisions, noise. This one does nothing.
    """

    def new_record(self) -> Record:
        """Make the empty record that this pass fills."""
        return Record()

    def before_block(self, i: int, sequence: TokenSequence) -> TokenSequence:
        """Change the sequence before block ``i``."""
        return sequence

    def plan(self, i: int, sequence: TokenSequence) -> MixerPlan:
        """Say what the mixer of block ``i`` shall do.

        It is asked once, also where the block is computed again for its
        gradients: draw random numbers here.
        """
        return PLAIN

    def after_block(
        self, i: int, sequence: TokenSequence, mixed: Mixed
    ) -> None:
        """Look at the sequence and at scores after block ``i``."""

    def shown(self, level: Tensor) -> Tensor:
        """Change what maps show of the stream behind a block, (B, L, D)."""
        return level

    def finish(
        self, sequence: TokenSequence, tokens: Tensor, record: Record
    ) -> None:
        """Put into the record what the pass decided.

        Args:
            sequence (TokenSequence): After the last block.
            tokens (Tensor): After the final norm, (B, L, D).
            record (Record): Of this pass.
        """


NO_STEPS = Steps()
