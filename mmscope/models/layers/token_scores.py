"""Token importance from the outputs of a mixer (paper section 4.2.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_TOP_CHANNELS = 8
Metric = Callable[[Tensor], Tensor]


def _max_norm(y: Tensor) -> Tensor:
    # softplus is monotone: the largest softplus is that of the largest y.
    return F.softplus(y.amax(-1))


def _topk(y: Tensor) -> Tensor:
    largest = y.topk(min(NUM_TOP_CHANNELS, y.shape[-1]), -1).values
    return F.softplus(largest).mean(-1)


# The paper names the metrics of Table 4 and defines `max_norm` alone
# (Eq. 11); the others are our reading of the names.
_METRICS: dict[str, Metric] = {
    'max_norm': _max_norm,
    'l2_norm': lambda y: y.norm(dim=-1),
    'none': lambda y: y.mean(-1),
    'clip': lambda y: y.clamp(min=0).mean(-1),
    'softplus': lambda y: F.softplus(y).mean(-1),
    'topk': _topk,
    # Controls: what a selection is worth that knows nothing, or errs.
    'random': lambda y: torch.rand(y.shape[:-1], device=y.device),
    'reversed': lambda y: -_max_norm(y),
}
SCORE_METRICS = tuple(_METRICS)


def _backward_gated(y_f: Tensor, y_b: Tensor, z: Tensor) -> Tensor:
    return (y_b * F.silu(z)).clamp(min=0).sum(-1)


# What token reductions of others rank by: they need more than one output.
_GATED: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    'backward_gated': _backward_gated
}
GATED_METRICS = tuple(_GATED)


def token_scores(y: Tensor, metric: str = 'max_norm') -> Tensor:
    """Score every token by its scan output (Eq. 11, Table 4).

    Args:
        y (Tensor): Ungated output of one direction, (B, L, d_inner).
        metric (str): One of ``SCORE_METRICS``. Defaults to 'max_norm',
            max over channels of softplus(y). 'random' (drawn from the global
            generator, so results vary) and 'reversed' are controls.

    Returns:
        Tensor: Scores, (B, L) float32 (float64 stays).

    Raises:
        ValueError: If the metric is unknown.
    """
    if metric not in _METRICS:
        raise ValueError(
            f'score_metric must be one of {SCORE_METRICS}, got {metric!r}'
        )
    return _METRICS[metric](_exact(y))


def _exact(y: Tensor) -> Tensor:
    return y if y.dtype.itemsize > 2 else y.float()


def direction_scores(
    metric: str, y_f: Tensor, y_b: Tensor, z: Tensor
) -> Tensor:
    """Score tokens by both directions of a mixer.

    Args:
        metric (str): One of ``SCORE_METRICS``, or 'backward_gated', the sum
            over channels of max(0, y_b * silu(z)) (ToP-ViM, arXiv:2409.18962,
            as released).
        y_f (Tensor): Ungated output of the forward scan, (B, L, d_inner).
        y_b (Tensor): Of the backward scan, in the order of the sequence.
        z (Tensor): The gate before its SiLU, (B, L, d_inner); the metrics of
            the paper do without.

    Returns:
        Tensor: Mean of the two directions, (B, L); of 'backward_gated' the
        backward one. A score ranks, and a ranking has no gradient.
    """
    y_f, y_b = y_f.detach(), y_b.detach()
    if metric in _GATED:
        return _GATED[metric](*map(_exact, (y_f, y_b, z.detach())))
    return (token_scores(y_f, metric) + token_scores(y_b, metric)) / 2


def accumulate_scores(
    average: Tensor | None, scores: Tensor, momentum: float
) -> Tensor:
    """Update the running mean over scored blocks (Eq. 12).

    It starts from zero as CF-ViT's does; only the ranking is used.

    Args:
        average (Tensor | None): Mean so far (B, L), None before the first
            scored block.
        scores (Tensor): Scores of this block, (B, L).
        momentum (float): β in [0, 1).

    Returns:
        Tensor: β * average + (1 - β) * scores, (B, L).
    """
    scaled = (1.0 - momentum) * scores
    return scaled if average is None else momentum * average + scaled
