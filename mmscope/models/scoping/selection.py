"""Which regions are refined, and how the fine sequence is laid out.

Letters: (h, w) coarse grid, (2h, 2w) fine grid, n = h * w regions, K refined
regions, B batch, D channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

CLS_POSITIONS = ('middle', 'ahead', 'behind')
TOKEN_ORDERS = ('first', 'last')


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
    if not 0.0 <= refine_ratio <= 1.0:
        raise ValueError(
            f'refine_ratio must lie in [0, 1], got {refine_ratio}'
        )
    return math.ceil(round(refine_ratio * num_regions, 6))


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
    order = importance.argsort(dim=1, descending=True, stable=True)
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
    first = 4 * width * rows + 2 * columns
    offsets = torch.tensor([0, 1, 2 * width, 2 * width + 1])
    return first.unsqueeze(-1) + offsets.to(regions)


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Pick tokens by index.

    Args:
        tokens (Tensor): (B, L, D).
        index (Tensor): (B, M).

    Returns:
        Tensor: (B, M, D).
    """
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.size(2)))


@dataclass
class FineLayout:
    """Order of the fine sequence (Algorithm 2, lines 9-18).

    With the defaults the sequence is [first half of the 4K fine tokens, cls,
    second half, kept coarse tokens]. Fine tokens stand in fine raster order
    (line 12), kept regions in coarse raster order.

    Attributes:
        grid (tuple[int, int]): Coarse grid (h, w).
        refined (Tensor): Refined regions, (B, K), sorted.
        kept (Tensor): The other regions, (B, n - K), sorted.
        cls_position (str): Place of cls among the fine tokens.
        token_order (str): 'first' puts the fine tokens before the kept ones.
    """

    grid: tuple[int, int]
    refined: Tensor
    kept: Tensor
    cls_position: str = 'middle'
    token_order: str = 'first'

    @property
    def num_fine(self) -> int:
        """Fine tokens in the sequence, 4K."""
        return 4 * self.refined.shape[1]

    @property
    def num_tokens(self) -> int:
        """Length of the sequence, cls included: 4K + (n - K) + 1."""
        return self.num_fine + self.kept.shape[1] + 1

    @property
    def fine_index(self) -> Tensor:
        """Fine raster indices of the fine tokens, (B, 4K), sorted."""
        children = fine_children(self.refined, self.grid[1])
        return children.flatten(1).sort(1).values

    @property
    def fine_start(self) -> int:
        """Index at which the block of fine tokens and cls starts."""
        return 0 if self.token_order == 'first' else self.kept.shape[1]

    @property
    def cls_offset(self) -> int:
        """Fine tokens that stand before cls."""
        halves = {'ahead': 0, 'middle': self.num_fine // 2}
        return halves.get(self.cls_position, self.num_fine)

    @property
    def cls_index(self) -> int:
        """Index of cls in the sequence."""
        return self.fine_start + self.cls_offset

    def arrange(self, fine: Tensor, cls: Tensor, coarse: Tensor) -> Tensor:
        """Build the fine sequence.

        Args:
            fine (Tensor): All fine tokens in raster order, (B, 4n, D).
            cls (Tensor): (B, 1, D).
            coarse (Tensor): All coarse tokens in raster order, (B, n, D).

        Returns:
            Tensor: (B, 4K + 1 + n - K, D).
        """
        if self.kept.shape[1]:
            fine = gather_tokens(fine, self.fine_index)
        cut = self.cls_offset
        important = [fine[:, :cut], cls, fine[:, cut:]]
        kept = gather_tokens(coarse, self.kept)
        if self.token_order == 'first':
            return torch.cat([*important, kept], 1)
        return torch.cat([kept, *important], 1)

    def scatter(self, tokens: Tensor) -> Tensor:
        """Bring a sequence back to the full fine grid.

        A fine token goes to its place; the token of a kept region is
        repeated over the region's 2 x 2.

        Args:
            tokens (Tensor): Sequence as :meth:`arrange` lays it out,
                (B, 4K + 1 + n - K, D).

        Returns:
            Tensor: (B, 4n, D) in fine raster order.
        """
        return gather_tokens(tokens, self._source())

    def _source(self) -> Tensor:
        """Position in the sequence for each fine cell, (B, 4n)."""
        batch, num_kept = self.kept.shape
        device = self.kept.device
        slots = torch.arange(self.num_fine, device=device)
        slots = self.fine_start + slots + (slots >= self.cls_offset).long()
        source = slots.new_empty(batch, 4 * self.grid[0] * self.grid[1])
        source.scatter_(1, self.fine_index, slots.expand(batch, -1))
        kept_start = self.num_fine + 1 if self.token_order == 'first' else 0
        kept = kept_start + torch.arange(num_kept, device=device)
        children = fine_children(self.kept, self.grid[1]).flatten(1)
        repeated = kept.repeat_interleave(4).expand(batch, -1)
        return source.scatter_(1, children, repeated)
