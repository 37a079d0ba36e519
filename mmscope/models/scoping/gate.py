"""The confidence gate: who leaves after the coarse stage."""

from __future__ import annotations

import math
import sys
from numbers import Real
from typing import Any

from torch import Tensor, nn

from mmscope.models.heads.confidence import (
    CONFIDENCES,
    check_confidence,
    confidence,
)


def check_threshold(value: object) -> float | None:
    """Validate an exit threshold η.

    Args:
        value (object): None (nobody exits) or a number >= 0; 0 lets everyone
            exit, above 1 nobody.

    Returns:
        float | None: The threshold.

    Raises:
        ValueError: If the value is not a number, negative or NaN.
    """
    if value is None:
        return None
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or math.isnan(value) or value < 0:
        raise ValueError(
            'exit_threshold must be None or a number >= 0 (0: every image '
            f'exits, > 1: none does), got {value!r} of type '
            f'{type(value).__name__}'
        )
    return float(value)


class Gate:
    """Exit iff confidence >= η (paper section 4.1), judged by an exit head.

    A plain object, not a module: holding one adds no parameter and no
    submodule to the backbone, and ``copy.deepcopy`` of a whole model maps
    ``owner`` to the copy.

    Args:
        owner (nn.Module): The exit head.
        kind (str | None): Kind of confidence; None for the head's own.
            Defaults to None.

    Raises:
        ValueError: If the head's outputs have no such confidence.
    """

    def __init__(self, owner: nn.Module, kind: str | None = None) -> None:
        self.owner = owner
        own = getattr(self.head, 'kind', next(iter(CONFIDENCES[self.meaning])))
        self.kind = check_confidence(kind or own, self.meaning)

    @property
    def head(self) -> nn.Module:
        """The module that predicts."""
        return self.owner

    @property
    def meaning(self) -> str:
        """What the head's outputs are, see :func:`meaning_of`."""
        return meaning_of(self.head)

    def logits(self, cls: Tensor) -> Tensor:
        """Predict from coarse tokens (B, D): (B, C)."""
        return self.head(cls)

    def confidence(self, cls: Tensor) -> Tensor:
        """Judge coarse predictions.

        Args:
            cls (Tensor): What the backbone reads out of the coarse stage,
                (B, D).

        Returns:
            Tensor: (B,) float32 in [0, 1].
        """
        return confidence(self.logits(cls), self.kind, self.meaning)

    def check_trained(self) -> None:
        """Refuse to decide by a head that has never been trained.

        Raises:
            RuntimeError: If the head knows that it has seen no update.
        """
        if not getattr(self.head, 'is_trained', True):
            raise RuntimeError(
                f'the gate would decide by a {type(self.head).__name__} that '
                'was never trained: load a checkpoint trained with the exit '
                'head (EarlyExitEncoderDecoder, or a plain host with '
                'ConfidenceGateHook), or use exit_threshold 0, > 1 or None'
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> Gate:
        # Where the owner is copied too, it comes first. A backbone that is
        # copied alone goes on asking the host that it belongs to.
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        copied.owner = memo.get(id(self.owner), self.owner)
        return copied


class ExitHeadGate(Gate):
    """The same, judged by the exit head that its backbone has just now.

    Args:
        owner (nn.Module): Backbone with ``exit_head``.
        kind (str | None): See :class:`Gate`.
    """

    @property
    def head(self) -> nn.Module:
        """The backbone's exit head as it is now."""
        return self.owner.exit_head


class HostGate(Gate):
    """The same, judged by what a classifier makes of the coarse token.

    Neck and head are looked up when it decides, so one that somebody
    replaced counts at once.

    Args:
        owner (nn.Module): Host model with ``head`` and perhaps ``neck``.
        kind (str | None): Kind of confidence. Defaults to None, the first
            of the outputs' meaning.
    """

    @property
    def head(self) -> nn.Module:
        """The host's head as it is now."""
        return self.owner.head

    def logits(self, cls: Tensor) -> Tensor:
        """Predict as the host does: neck, then head, (B, C)."""
        feats = (cls,)
        if getattr(self.owner, 'neck', None) is not None:
            feats = self.owner.neck(feats)
        return self.head(feats)


def meaning_of(head: nn.Module) -> str:
    """Ask a head what its outputs mean.

    Args:
        head (nn.Module): Ours and others say it by an attribute ``meaning``;
            mmpretrain's heads are known.

    Returns:
        str: 'softmax' or 'multi_label'.

    Raises:
        ValueError: If nobody knows.
    """
    meaning = getattr(head, 'meaning', None)
    if meaning is None and 'mmpretrain.models.heads' in sys.modules:
        heads = sys.modules['mmpretrain.models.heads']
        if isinstance(head, heads.MultiLabelClsHead):
            meaning = 'multi_label'
        elif isinstance(head, heads.ClsHead):
            meaning = 'softmax'
    if meaning not in CONFIDENCES:
        raise ValueError(
            f'the gate cannot tell what a {type(head).__name__} predicts '
            f'(meaning: {meaning!r}): give the class an attribute '
            f'meaning, one of {tuple(CONFIDENCES)}'
        )
    return meaning


def exit_mask(confidence: Tensor, threshold: float) -> Tensor:
    """Decide who leaves.

    Args:
        confidence (Tensor): (B,).
        threshold (float): η.

    Returns:
        Tensor: (B,) bool.
    """
    return confidence.double() >= threshold
