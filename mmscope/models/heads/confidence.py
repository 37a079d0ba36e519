"""How sure a prediction is: the formulas of exit gates."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

# Of logits (B, C), and of the classes that count as present, (B, C) bool.
Formula = Callable[[Tensor, Tensor | None], Tensor]


def _max_prob(logits: Tensor, present: Tensor | None = None) -> Tensor:
    return logits.log_softmax(-1).amax(-1).exp()


def _softmax_entropy(logits: Tensor, present: Tensor | None) -> Tensor:
    log_probs = logits.log_softmax(-1)
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    # Rounding may put it outside.
    return (1.0 - entropy / math.log(logits.shape[-1])).clamp(0.0, 1.0)


def _binary_entropy(logits: Tensor, present: Tensor | None) -> Tensor:
    probs = logits.sigmoid()
    entropy = -(
        probs * F.logsigmoid(logits) + (1.0 - probs) * F.logsigmoid(-logits)
    )
    return (1.0 - entropy.mean(-1) / math.log(2.0)).clamp(0.0, 1.0)


def _mean_present(logits: Tensor, present: Tensor | None) -> Tensor:
    probs = logits.sigmoid()
    present = probs >= 0.5 if present is None else present
    total = (probs * present).sum(-1)
    return total / present.sum(-1).clamp(min=1)


def _min_present(logits: Tensor, present: Tensor | None) -> Tensor:
    probs = logits.sigmoid()
    present = probs >= 0.5 if present is None else present
    least = probs.masked_fill(~present, 1.0).amin(-1)
    return least * present.any(-1)


# What outputs mean, and how sure they can be. The first kind is the default.
CONFIDENCES: dict[str, dict[str, Formula]] = {
    'softmax': {'max_prob': _max_prob, 'entropy': _softmax_entropy},
    'multi_label': {
        'mean_present': _mean_present,
        'min_present': _min_present,
        'entropy': _binary_entropy,
    },
}
SOFTMAX_CONFIDENCES = tuple(CONFIDENCES['softmax'])
# Of a head that also predicts which class each coarse cell shows.
MAP = 'map'
MULTI_LABEL_CONFIDENCES = (*CONFIDENCES['multi_label'], MAP)
ALL_CONFIDENCES = tuple(
    dict.fromkeys((*SOFTMAX_CONFIDENCES, *MULTI_LABEL_CONFIDENCES))
)


def kinds_of(meaning: str, with_map: bool = False) -> tuple[str, ...]:
    """List the kinds of confidence that a head offers, the default first."""
    kinds = tuple(CONFIDENCES[meaning])
    return (*kinds, MAP) if with_map else kinds


def check_confidence(
    kind: str,
    meaning: str,
    num_classes: int | None = None,
    with_map: bool = False,
) -> str:
    """Return a kind of confidence if the outputs have it.

    Args:
        kind (str): Its name.
        meaning (str): 'softmax' or 'multi_label'.
        num_classes (int | None): Classes C; None where nobody knows.
            Defaults to None.
        with_map (bool): See :func:`kinds_of`. Defaults to False.

    Raises:
        ValueError: If there is no such kind, or the outputs are a
            distribution over a single class, which is always sure.
    """
    kinds = kinds_of(meaning, with_map)
    if kind not in kinds:
        hint = ''
        if kind == MAP:
            hint = ': a head with a map has it, exit_head.map_loss_weight=0.4'
        raise ValueError(
            f'confidence of a {meaning} prediction must be one of {kinds}, '
            f'got {kind!r}{hint}'
        )
    if meaning == 'softmax' and kind != MAP and num_classes == 1:
        raise ValueError(
            'a softmax over one class is 1 whatever the image shows, so every '
            'image would exit: give the head num_classes >= 2, or '
            'let backbone.exit_head decide'
        )
    return kind


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
    return confidence(logits, kind, 'softmax')


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
    return confidence(logits, kind, 'multi_label')


def confidence(
    logits: Tensor, kind: str, meaning: str, present: Tensor | None = None
) -> Tensor:
    """Confidence of a prediction of either meaning.

    Args:
        logits (Tensor): (B, C).
        kind (str): See ``CONFIDENCES``.
        meaning (str): 'softmax' or 'multi_label'.
        present (Tensor | None): Which classes the head calls present,
            (B, C) bool; None for those of at least 0.5. Defaults to None.

    Returns:
        Tensor: (B,) float32 in [0, 1].

    Raises:
        ValueError: If ``kind`` is unknown, or a softmax has one class.
    """
    check_confidence(kind, meaning, logits.shape[-1])
    return CONFIDENCES[meaning][kind](logits.float(), present)


def map_confidence(logits: Tensor) -> Tensor:
    """Confidence of a prediction of which class each coarse cell shows.

    Args:
        logits (Tensor): (B, n, K); each cell is a softmax over K classes.

    Returns:
        Tensor: Mean over the n cells of the largest probability, (B,)
        float32 in [0, 1]. Cells of padding count like all others: nothing
        tells a backbone where its images end.
    """
    return _max_prob(logits.float()).mean(-1)
