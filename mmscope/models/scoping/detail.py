"""What halving an image loses: importance without looking.

The paper refines where the output of the scan is large. What the coarse
stage cannot see is known without any network: it is the difference between
the image and its halved version.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmscope.models.layers import is_number, ranking

DETAIL = 'detail'
# Shares of the regions that coverage chooses from: an image's own number is
# rounded up to one of these, so that few groups run in a batch.
COVERAGE_SHARES = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)


def lost_detail(imgs: Tensor, half: Tensor, patch_size: int) -> Tensor:
    """Measure the energy that halving takes from each region.

    Padding is part of what the stages see: where it begins within a block of
    2 x 2 pixels, which takes an odd side of the image, the edge counts.

    Args:
        imgs (Tensor): Padded, normalised images, (B, C, H, W); sides are
            multiples of 2p.
        half (Tensor): Means of their 2 x 2 pixels, (B, C, H / 2, W / 2).
        patch_size (int): p; a region has 2p x 2p pixels.

    Returns:
        Tensor: Mean over pixels and channels of (x - up(down(x)))² with
        nearest upsampling, (B, n) float32, n = H W / 4p² regions in raster
        order. It has no gradient.
    """
    seen = F.interpolate(half.detach().float(), scale_factor=2, mode='nearest')
    lost = imgs.detach().float() - seen
    return F.avg_pool2d(lost.square(), 2 * patch_size).mean(1).flatten(1)


def rank_sum(one: Tensor, other: Tensor) -> Tensor:
    """Join two importances that have no common unit.

    Args:
        one (Tensor): (B, n); the larger, the more important.
        other (Tensor): The same of another kind, (B, n).

    Returns:
        Tensor: Minus the sum of both ranks, (B, n) float32: 0 where a region
        is the first of both. Ties within a kind go to the smaller index.
    """
    rank, other_rank = (ranking(x).argsort(dim=1) for x in (one, other))
    return -(rank + other_rank).float()


def check_coverage(value: Any) -> float | None:
    """Validate a share of the lost energy.

    Args:
        value (Any): None, or a number in (0, 1].

    Returns:
        float | None: The share.

    Raises:
        ValueError: If it is something else.
    """
    if value is not None and not (is_number(value) and 0.0 < value <= 1.0):
        raise ValueError(
            'refine_coverage must be None or a share of the lost energy in '
            f'(0, 1], got {value!r}'
        )
    return value if value is None else float(value)


def count_covering(energy: Tensor, coverage: float) -> Tensor:
    """Count the regions that hold a share of an image's lost energy.

    Args:
        energy (Tensor): :func:`lost_detail`, (B, n).
        coverage (float): Share in (0, 1].

    Returns:
        Tensor: (B,) int64, the smallest of the counts of
        ``COVERAGE_SHARES`` whose most important regions hold it. An image
        that loses nothing gets the smallest of all.
    """
    regions = energy.shape[1]
    counts = [math.ceil(share * regions) for share in COVERAGE_SHARES]
    allowed = torch.tensor(counts, device=energy.device)
    most = energy.double().sort(1, descending=True).values
    # No cumulative sum, which CUDA has no deterministic one of.
    held = torch.stack([most[:, :count].sum(1) for count in counts], 1)
    # Of the same sum: all regions hold all of it.
    enough = held >= coverage * held[:, -1:]
    return allowed[enough.int().argmax(1)]
