"""Decisions of DyVM: drawn with noise in training, or given from outside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmscope.models.layers import Record
from mmscope.models.reduction.token_reduction import find_reduced_backbone

# Temperature of the directions' sigmoid in training.
BLOCK_TEMPERATURE = 2.0


@dataclass(kw_only=True)
class DyVMRecord(Record):
    """What a pass through a DyVM decided.

    Letters: B images, M patches, D channels. In evaluation ``reductions``
    says what was kept, and the fields below stay empty.

    Attributes:
        decisions (list[Tensor]): 1 for the patches that stage s kept, in the
            order in which it saw them, (B, M) each, with the graph of their
            probabilities.
        positions (Tensor | None): Raster index of each patch in the order
            after the last stage, (B, M) int64.
        token_policy (Tensor | None): Last decision, in the same order.
        tokens (Tensor | None): Patches after the final norm, in the same
            order, (B, M, D).
    """

    decisions: list[Tensor] = field(default_factory=list)
    positions: Tensor | None = None
    token_policy: Tensor | None = None
    tokens: Tensor | None = None

    @property
    def block_decisions(self) -> Tensor:
        """What each block ran, (layers, B, 2), as it was decided."""
        # Every block decides.
        return torch.stack(cast('list[Tensor]', self.directions))

    @property
    def block_policy(self) -> Tensor:
        """The same as (layers, B, 2) bool."""
        return self.block_decisions.detach() > 0.5


@dataclass(frozen=True)
class ForcedDecisions:
    """Decisions that are taken instead of a model's own.

    Attributes:
        tokens (Sequence[Tensor] | None): Patches alive after each stage, in
            raster order, (B, M) bool each; None leaves them to the model.
        blocks (Tensor | None): Directions that run, (layers, B, 2) bool;
            None leaves them to the model.
    """

    tokens: Sequence[Tensor] | None = None
    blocks: Tensor | None = None

    def check(self, layers: int, stages: int, shape: tuple[int, int]) -> None:
        """Refuse decisions of another model or another batch.

        Args:
            layers (int): Blocks of the backbone.
            stages (int): Stages that prune.
            shape (tuple[int, int]): Images B and patches M.

        Raises:
            ValueError: If number, shape or dtype differ, or a patch comes
                back.
        """
        if self.blocks is not None:
            _check('blocks', self.blocks, (layers, shape[0], 2))
        if self.tokens is None:
            return
        if len(self.tokens) != stages:
            raise ValueError(
                f'forced tokens are of {len(self.tokens)} stages, this model '
                f'prunes in {stages}: give one (B, M) bool a stage'
            )
        alive = None
        for s, tokens in enumerate(self.tokens):
            _check(f'tokens[{s}]', tokens, shape)
            if alive is not None and bool((tokens & ~alive).any()):
                raise ValueError(
                    f'forced tokens[{s}] keep patches that tokens[{s - 1}] '
                    'dropped: a patch that is gone cannot come back'
                )
            alive = tokens


def _check(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    got = type(value).__name__
    if isinstance(value, Tensor):
        got = f'{tuple(value.shape)} of {value.dtype}'
        if tuple(value.shape) == shape and value.dtype == torch.bool:
            return
    raise ValueError(f'forced {name} must be {shape} of torch.bool, got {got}')


@contextmanager
def forced_decisions(
    model: nn.Module,
    tokens: Sequence[Tensor] | None = None,
    blocks: Tensor | None = None,
) -> Iterator[None]:
    """Let a model with DyVM prune and skip what is given, for a while.

    Args:
        model (nn.Module): Host model, wrapped or not, or the backbone.
        tokens (Sequence[Tensor] | None): Patches alive after each stage, in
            raster order, (B, M) bool each; in evaluation all images keep
            equally many. None leaves them to the model. Defaults to None.
        blocks (Tensor | None): Directions that run, (layers, B, 2) bool.
            None leaves them to the model. Defaults to None.

    Yields:
        None: Forwards inside take them; shapes are checked there.

    Raises:
        ValueError: If the model has no DyVM.
    """
    reduction: Any = find_reduced_backbone(model).reduction
    if not isinstance(getattr(reduction, 'forced', None), ForcedDecisions):
        raise ValueError(
            f'{type(reduction).__name__} takes no forced decisions: they are '
            'those of mmscope.DyVM'
        )
    before = reduction.forced
    reduction.forced = ForcedDecisions(tokens, blocks)
    try:
        yield
    finally:
        reduction.forced = before


def draw_kept(
    log_probs: Tensor, exponential: Tensor, forced: Tensor | None = None
) -> Tensor:
    """Decide which patches to keep, by a straight-through Gumbel-softmax.

    Args:
        log_probs (Tensor): Of keeping and dropping, (B, M, 2).
        exponential (Tensor): Draws of Exponential(1), (B, M, 2).
        forced (Tensor | None): (B, M) bool, taken instead. Defaults to None.

    Returns:
        Tensor: (B, M), 0 or 1 with the gradient of the soft decision.
    """
    soft = (log_probs - exponential.log()).softmax(-1)
    # The first of equals, as argmax takes it.
    hard = soft[..., 0] >= soft[..., 1] if forced is None else forced
    return straight_through(hard, soft[..., 0])


def draw_directions(
    logits: Tensor, exponential: Tensor, forced: Tensor | None = None
) -> Tensor:
    """Decide which directions to run, by a straight-through Gumbel-sigmoid.

    Args:
        logits (Tensor): (B, 2), forward and backward.
        exponential (Tensor): Two draws of Exponential(1) for each, (2, B,
            2).
        forced (Tensor | None): (B, 2) bool, taken instead. Defaults to None.

    Returns:
        Tensor: (B, 2), 0 or 1 with the gradient of the soft decision.
    """
    noise = exponential[1].log() - exponential[0].log()
    soft = ((logits.float() + noise) / BLOCK_TEMPERATURE).sigmoid()
    hard = soft > 0.5 if forced is None else forced
    return straight_through(hard, soft)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Give a hard decision (bool) the gradient of a soft one."""
    # In this order the difference is exactly 0, and the sum exactly 0 or 1.
    return hard.to(soft.dtype) + (soft - soft.detach())
