"""The confidence gate: who leaves after the coarse stage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

import torch.nn.functional as F
from torch import Tensor, nn

SOFTMAX_CONFIDENCES = ('max_prob', 'entropy')
MULTI_LABEL_CONFIDENCES = ('mean_present', 'min_present', 'entropy')


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


def softmax_confidence(logits: Tensor, kind: str = 'max_prob') -> Tensor:
    """Confidence of a single-label prediction.

    Args:
        logits (Tensor): (B, C).
        kind (str): 'max_prob', the largest probability, or 'entropy',
            1 - H / log C. Defaults to 'max_prob'.

    Returns:
        Tensor: (B,) float32 in [0, 1].

    Raises:
        ValueError: If ``kind`` is unknown.
    """
    log_probs = logits.float().log_softmax(-1)
    if kind == 'max_prob':
        return log_probs.amax(-1).exp()
    if kind == 'entropy':
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        return 1.0 - entropy / math.log(logits.shape[-1])
    raise ValueError(
        f'confidence must be one of {SOFTMAX_CONFIDENCES}, got {kind!r}'
    )


def multi_label_confidence(
    logits: Tensor, kind: str = 'mean_present'
) -> Tensor:
    """Confidence of a prediction of which classes are in the image.

    Args:
        logits (Tensor): (B, C), one independent logit a class.
        kind (str): 'mean_present' or 'min_present', the mean or least
            probability among the classes predicted present (>= 0.5), 0 if
            there is none; 'entropy', 1 - mean binary entropy in bits.
            Defaults to 'mean_present'.

    Returns:
        Tensor: (B,) float32 in [0, 1].

    Raises:
        ValueError: If ``kind`` is unknown.
    """
    if kind not in MULTI_LABEL_CONFIDENCES:
        raise ValueError(
            f'confidence must be one of {MULTI_LABEL_CONFIDENCES}, '
            f'got {kind!r}'
        )
    logits = logits.float()
    probs = logits.sigmoid()
    if kind == 'entropy':
        entropy = -(
            probs * F.logsigmoid(logits)
            + (1.0 - probs) * F.logsigmoid(-logits)
        )
        return 1.0 - entropy.mean(-1) / math.log(2.0)
    present = probs >= 0.5
    if kind == 'mean_present':
        total = (probs * present).sum(-1)
        return total / present.sum(-1).clamp(min=1)
    least = probs.masked_fill(~present, 1.0).amin(-1)
    return least * present.any(-1)


@dataclass
class ExitRecord:
    """What one evaluation forward of a two-stage backbone decided.

    Attributes:
        grid (tuple[int, int]): Coarse grid (h, w).
        confidence (Tensor | None): (B,), None where no head predicts it.
        exited (Tensor): Whether the image left after the coarse stage, (B,)
            bool.
        coarse_tokens (int): Tokens of the coarse stage, h * w + 1.
        fine_tokens (int): Tokens that an image which goes on adds.
        importance (Tensor): Token importance, (B, h, w).
        refined (Tensor): Refined regions, (B, h, w) bool, all False for an
            image that exited.
    """

    grid: tuple[int, int]
    confidence: Tensor | None
    exited: Tensor
    coarse_tokens: int
    fine_tokens: int
    importance: Tensor
    refined: Tensor


class Gate:
    """Exit iff confidence >= η (paper section 4.1).

    A plain object, not a module: holding one adds no parameter and no
    submodule to the backbone, and ``copy.deepcopy`` of a whole model maps
    ``head`` to the copied head.

    Args:
        head (nn.Module): An exit head with a method ``confidence(cls)``, or
            a classifier's head that maps ``(cls,)`` to logits (B, C).
        confidence (str): Kind of confidence for a classifier's head.
            Defaults to 'max_prob'.

    Raises:
        ValueError: If the kind is unknown.
    """

    def __init__(self, head: nn.Module, confidence: str = 'max_prob') -> None:
        if confidence not in SOFTMAX_CONFIDENCES:
            raise ValueError(
                f'confidence must be one of {SOFTMAX_CONFIDENCES}, got '
                f'{confidence!r}'
            )
        self.head = head
        self.kind = confidence

    def confidence(self, cls: Tensor) -> Tensor:
        """Judge coarse predictions.

        Args:
            cls (Tensor): Coarse cls tokens after the final norm, (B, D).

        Returns:
            Tensor: (B,) float32 in [0, 1].
        """
        if hasattr(self.head, 'confidence'):
            return self.head.confidence(cls)
        return softmax_confidence(self.head((cls,)), self.kind)

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


def exit_mask(confidence: Tensor, threshold: float) -> Tensor:
    """Decide who leaves.

    Args:
        confidence (Tensor): (B,).
        threshold (float): η.

    Returns:
        Tensor: (B,) bool.
    """
    return confidence.double() >= threshold


def unwrap_model(model: nn.Module) -> nn.Module:
    """Strip DDP and test-time-augmentation wrappers off a model.

    Args:
        model (nn.Module): Possibly wrapped, also more than once.

    Returns:
        nn.Module: The innermost ``.module``.
    """
    while isinstance(getattr(model, 'module', None), nn.Module):
        model = model.module
    return model


def find_backbone(model: nn.Module) -> nn.Module:
    """Find the two-stage backbone of a host model.

    Args:
        model (nn.Module): Host model, wrapped or not, or the backbone.

    Returns:
        nn.Module: The backbone.

    Raises:
        ValueError: If there is none.
    """
    model = unwrap_model(model)
    backbone = getattr(model, 'backbone', model)
    if not hasattr(backbone, 'gate'):
        raise ValueError(
            'an exit gate needs a two-stage backbone such as '
            f'mmscope.MambaScope; {type(model).__name__} has '
            f'{type(backbone).__name__}'
        )
    return backbone


def attach_gate(
    model: nn.Module,
    exit_threshold: float | None = None,
    confidence: str | None = None,
) -> nn.Module:
    """Wire the exit gate of a host model; the one way to do so.

    A backbone with its own exit head decides by it; otherwise the backbone
    keeps an unregistered reference to the host's ``head``. No parameter, no
    module and no state-dict key is added.

    Args:
        model (nn.Module): Host model, possibly inside DDP or TTA wrappers.
        exit_threshold (float | None): η; None leaves the threshold that the
            backbone has. Defaults to None.
        confidence (str | None): Kind of confidence for a classifier's head,
            one of ``SOFTMAX_CONFIDENCES``; None leaves that of the gate, or
            takes 'max_prob' where there is none. Defaults to None.

    Returns:
        nn.Module: The backbone.

    Raises:
        ValueError: If the model has no two-stage backbone, nothing that
            could predict, or the threshold is invalid.
        RuntimeError: If weights are sharded (FSDP, ZeRO-3).
    """
    threshold = check_threshold(exit_threshold)
    backbone = find_backbone(model)
    if threshold is not None:
        _refuse_sharded(model)
    host = unwrap_model(model)
    if getattr(backbone, 'exit_head', None) is None and host is not backbone:
        head = getattr(host, 'head', None)
        if head is None:
            raise ValueError(
                f'{type(host).__name__} has no classification head and its '
                'backbone no exit head: set backbone.exit_head=dict('
                "type='mmscope.MultiLabelExitHead', num_classes=...)"
            )
        kind = confidence or getattr(backbone.gate, 'kind', 'max_prob')
        backbone.gate = Gate(head, kind)
    if threshold is not None:
        backbone.exit_threshold = threshold
    return backbone


def _refuse_sharded(model: nn.Module) -> None:
    sharded = any(
        type(module).__name__ == 'FullyShardedDataParallel'
        for module in model.modules()
    ) or any(
        hasattr(param, 'ds_id') or type(param).__name__ == 'DTensor'
        for param in model.parameters()
    )
    if sharded:
        raise RuntimeError(
            'an exit gate cannot run on sharded weights (FSDP, ZeRO-3): a '
            'rank whose images all exit would leave the others waiting for '
            'its weights. Evaluate with DDP or on one process'
        )
