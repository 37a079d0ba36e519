"""The order in which scores rank tokens."""

from __future__ import annotations

from torch import Tensor


def ranking(scores: Tensor) -> Tensor:
    """Order tokens from the largest score to the smallest.

    Args:
        scores (Tensor): (B, n).

    Returns:
        Tensor: Their indices, (B, n) int64; of equal scores the lower index
        comes first.
    """
    return scores.argsort(dim=1, descending=True, stable=True)
