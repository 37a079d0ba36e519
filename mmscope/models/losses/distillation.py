"""What the coarse prediction learns from the fine one."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

KL_DIRECTIONS = ('pq', 'qp')


def check_kl_direction(direction: str) -> str:
    """Return a direction of :func:`coarse_fine_kl`, or raise ValueError."""
    if direction not in KL_DIRECTIONS:
        raise ValueError(
            f'kl_direction must be one of {KL_DIRECTIONS}, got {direction!r}'
        )
    return direction


def coarse_fine_kl(
    coarse: Tensor, fine: Tensor, direction: str = 'pq'
) -> Tensor:
    """Divergence between the stages' predictions (Eq. 21).

    p is the fine prediction, q the coarse one. Gradients reach q alone: the
    fine stage is the teacher and must not move towards its pupil.

    Args:
        coarse (Tensor): Coarse logits, (B, C).
        fine (Tensor): Fine logits, (B, C); detached here.
        direction (str): 'qp', KL(q || p), is Eq. 21 to the letter; 'pq',
            KL(p || q), is what CF-ViT trains with. Its gradient q - p does
            not fade where q is confidently wrong. Defaults to 'pq', after
            docs/results/cifar10.md.

    Returns:
        Tensor: Mean over the batch, scalar, float32, in nats; 0 of no image.

    Raises:
        ValueError: If the direction is unknown.
    """
    check_kl_direction(direction)
    log_q = coarse.float().log_softmax(-1)
    log_p = fine.detach().float().log_softmax(-1)
    pair = (log_q, log_p) if direction == 'pq' else (log_p, log_q)
    total = F.kl_div(*pair, reduction='sum', log_target=True)
    return total / max(len(coarse), 1)
