"""Which regions are refined.

Letters: (h, w) coarse grid, (2h, 2w) fine grid, n = h * w regions, K refined
regions, B batch, D channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmscope.models.layers import is_number, ranking


def num_refined(refine_ratio: float, num_regions: int) -> int:
    """Count the regions to refine, K = ceil(α n) (Algorithm 2, line 6).

    Args:
        refine_ratio (float): α in [0, 1].
        num_regions (int): n.

    Returns:
        int: K. Rounding noise of α * n does not add a region: 0.07 * 100
        gives 7.

    Raises:
        ValueError: If the ratio lies outside [0, 1].
    """
    if not (is_number(refine_ratio) and 0.0 <= refine_ratio <= 1.0):
        raise ValueError(
            f'refine_ratio must lie in [0, 1], got {refine_ratio!r}'
        )
    # A tracer gives sizes as tensors.
    return math.ceil(round(refine_ratio * int(num_regions), 6))


def split_regions(importance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Split regions into refined and kept ones (Algorithm 2, lines 7-8).

    Args:
        importance (Tensor): (B, n); the larger, the more important. Ties go
            to the smaller index.
        k (int): Regions to refine.

    Returns:
        tuple[Tensor, Tensor]: Indices of the refined (B, K) and the other
        (B, n - K) regions, each in coarse raster order.
    """
    order = ranking(importance)
    return order[:, :k].sort(1).values, order[:, k:].sort(1).values


def fine_children(regions: Tensor, width: int) -> Tensor:
    """Map regions to their 2 x 2 fine tokens (Eq. 15-16).

    Region i at (r, c) = (i // w, i % w) owns the fine tokens (2r, 2c),
    (2r, 2c + 1), (2r + 1, 2c) and (2r + 1, 2c + 1). On a square grid this is
    Eq. 16; it holds for any h and w.

    Args:
        regions (Tensor): Region indices, (B, K).
        width (int): w, columns of the coarse grid.

    Returns:
        Tensor: Raster indices on the fine grid, (B, K, 4).
    """
    rows, columns = regions // width, regions % width
    # No table of offsets: one made on the CPU would have to be copied.
    first = 4 * width * rows + 2 * columns
    below = first + 2 * width
    return torch.stack([first, first + 1, below, below + 1], -1)
