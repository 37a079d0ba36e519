"""A gate that lets a wanted fraction of the images exit, for timing only."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from mmscope.evaluation.interleaved_timing import Run
from mmscope.models.scoping import (
    Gate,
    TwoStage,
    WrappedGate,
    at_threshold,
    decided_by,
)

# Ratios are rounded to fractions of at most so many images.
LARGEST_CYCLE = 100
THRESHOLD = 0.5


def as_fraction(ratio: float) -> Fraction:
    """Round an exit ratio to a fraction with a denominator of at most 100.

    Raises:
        ValueError: If the ratio is outside [0, 1].
    """
    if not 0 <= ratio <= 1:
        raise ValueError(
            f'an exit ratio is a fraction in [0, 1], got {ratio!r}'
        )
    return Fraction(ratio).limit_denominator(LARGEST_CYCLE)


def cycle_length(ratio: float, batch: int) -> int:
    """Count the forwards after which a forced ratio is met exactly.

    1 where ratio * batch is whole; 2 for a half at batch 1, which alternates.
    """
    return (as_fraction(ratio) * batch).denominator


class ForcedGate(WrappedGate):
    """Lets a fixed fraction exit, whatever the exit head says.

    It judges every image by the real head, so that the gate costs what it
    costs, and then replaces the confidences by 1 for those who are to exit
    and 0 for the others. As it does not decide by the head, it works with
    one that was never trained; the gate of the model itself still refuses.

    The exits of consecutive forwards follow ``ratio * images so far``,
    rounded down: with ratio * batch whole, exactly that many of each batch;
    at batch 1 and ratio 0.5 every second image. Who exits is spread over the
    batch by a fixed shuffle.

    Args:
        gate (Gate): The model's own.
        ratio (float): Exit ratio in [0, 1].

    Raises:
        ValueError: If the ratio is outside [0, 1].
    """

    def __init__(self, gate: Gate, ratio: float) -> None:
        super().__init__(gate)
        self.ratio = as_fraction(ratio)
        self.images = 0
        self._forced: dict[tuple, Tensor] = {}

    def check_trained(self) -> None:
        """Accept any head: this gate does not decide by it."""

    def confidence(self, cls: Tensor, tokens: Tensor) -> Tensor:
        """Judge the images; give (B,) float32, 1 for who is to exit."""
        super().confidence(cls, tokens)
        before = int(self.images * self.ratio)
        self.images += len(cls)
        exits = int(self.images * self.ratio) - before
        key = (len(cls), exits, cls.device)
        if key not in self._forced:
            self._forced[key] = forced_confidence(len(cls), exits, cls.device)
        return self._forced[key]


def forced_confidence(batch: int, exits: int, device: torch.device) -> Tensor:
    """Let some of B images exit: (B,), ones in a fixed shuffled order."""
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(0))
    confidence = torch.zeros(batch)
    confidence[order[:exits]] = 1.0
    return confidence.to(device)


def forced_run(backbone: TwoStage, ratio: float, forward: Run) -> Run:
    """Force an exit ratio on a forward through a backbone with a gate."""
    gate = ForcedGate(backbone.gate, ratio)

    def run() -> None:
        with at_threshold(backbone, THRESHOLD), decided_by(backbone, gate):
            forward()

    return run
