"""What the outputs of a head mean, and which classes it calls present."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from mmscope.models.heads.confidence import CONFIDENCES


def meaning_of(head: nn.Module) -> str:
    """Ask a head what its outputs mean.

    Args:
        head (nn.Module): Ours and others say it by an attribute ``meaning``;
            mmpretrain's heads are known that predict by the softmax or the
            sigmoid of what they return.

    Returns:
        str: 'softmax' or 'multi_label'.

    Raises:
        ValueError: If nobody knows.
    """
    meaning = getattr(head, 'meaning', None) or _meaning_in_mmpretrain(head)
    if meaning not in CONFIDENCES:
        raise ValueError(
            f'we cannot tell what a {type(head).__name__} predicts '
            f'(meaning: {meaning!r}): give the class an attribute '
            f'meaning, one of {tuple(CONFIDENCES)}, if it predicts by softmax '
            'or sigmoid of its outputs'
        )
    return meaning


def _meaning_in_mmpretrain(head: nn.Module) -> str | None:
    if 'mmpretrain.models.heads' not in sys.modules:
        return None
    heads = sys.modules['mmpretrain.models.heads']
    known = {'multi_label': heads.MultiLabelClsHead, 'softmax': heads.ClsHead}
    for meaning, base in known.items():
        # Regression, or two outputs that are added, is something else.
        if isinstance(head, base) and inherits(
            type(head), base, 'predict', '_get_predictions'
        ):
            return meaning
    return None


def predicts_several(head: nn.Module | None) -> bool:
    """Tell a head that may call any number of classes present.

    One whose meaning nobody knows predicts one.
    """
    meaning = getattr(head, 'meaning', None)
    if meaning is None and head is not None:
        meaning = _meaning_in_mmpretrain(head)
    return meaning == 'multi_label'


def inherits(kind: type, base: type, *methods: str) -> bool:
    """Tell whether a class has some methods from a base unchanged."""
    return all(getattr(kind, m) is getattr(base, m) for m in methods)


def present_classes(head: nn.Module, logits: Tensor) -> Tensor:
    """Ask a multi-label head which classes it calls present.

    Args:
        head (nn.Module): mmpretrain's say it by ``thr``, the least
            probability, or ``topk``, how many; without both it is 0.5.
        logits (Tensor): (B, C).

    Returns:
        Tensor: (B, C) bool.
    """
    probs = logits.sigmoid()
    least, number = getattr(head, 'thr', 0.5), getattr(head, 'topk', None)
    if least is None and number is not None:
        chosen = probs.topk(number, -1).indices
        return torch.zeros_like(probs, dtype=torch.bool).scatter(
            -1, chosen, True
        )
    return probs >= (0.5 if least is None else least)
