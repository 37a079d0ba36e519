"""How the fine sequence is laid out.

Letters: (h, w) coarse grid, (2h, 2w) fine grid, n = h * w regions, K refined
regions, B batch, D channels, m summary tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmscope.models.layers import SummaryTokens, TokenSequence, gather_tokens
from mmscope.models.scoping.selection import fine_children

# Where the text of the paper puts cls, as places of summary tokens.
CLS_POSITIONS = {'middle': 'middle', 'ahead': 'first', 'behind': 'last'}
TOKEN_ORDERS = ('first', 'last')


@dataclass
class FineLayout:
    """Order of the fine sequence (Algorithm 2, lines 9-18).

    With ViM's summary token the sequence is [first half of the 4K fine
    tokens, cls, second half, kept coarse tokens]. Fine tokens stand in fine
    raster order (line 12), kept regions in coarse raster order.

    Attributes:
        grid (tuple[int, int]): Coarse grid (h, w).
        refined (Tensor): Refined regions, (B, K), sorted.
        kept (Tensor): The other regions, (B, n - K), sorted.
        summary (SummaryTokens): Their places among the fine tokens.
        token_order (str): 'first' puts the fine tokens before the kept ones.
    """

    grid: tuple[int, int]
    refined: Tensor
    kept: Tensor
    summary: SummaryTokens
    token_order: str = 'first'

    @property
    def num_fine(self) -> int:
        """Fine tokens in the sequence, 4K."""
        return 4 * self.refined.shape[1]

    @property
    def num_tokens(self) -> int:
        """Length of the sequence: 4K + (n - K) + m."""
        return self.num_fine + self.kept.shape[1] + self.summary.count

    @property
    def fine_index(self) -> Tensor:
        """Fine raster indices of the fine tokens, (B, 4K), sorted."""
        children = fine_children(self.refined, self.grid[1])
        return children.flatten(1).sort(1).values

    @property
    def fine_start(self) -> int:
        """Index at which the block of fine and summary tokens starts."""
        return 0 if self.token_order == 'first' else self.kept.shape[1]

    @property
    def places(self) -> tuple[int, ...]:
        """Indices of the summary tokens in the sequence."""
        places = self.summary.places(self.num_fine)
        return tuple(self.fine_start + place for place in places)

    def arrange(
        self, fine: Tensor, summary: Tensor, coarse: Tensor
    ) -> TokenSequence:
        """Build the fine sequence.

        Args:
            fine (Tensor): All fine tokens in raster order, (B, 4n, D).
            summary (Tensor): (B, m, D).
            coarse (Tensor): All coarse tokens in raster order, (B, n, D).

        Returns:
            TokenSequence: Of 4K + m + n - K tokens, over the fine grid.
        """
        if self.kept.shape[1]:
            fine = gather_tokens(fine, self.fine_index)
        important = self.summary.pieces(fine, summary)
        kept = gather_tokens(coarse, self.kept)
        pieces = [*important, kept]
        if self.token_order != 'first':
            pieces = [kept, *important]
        grid = (2 * self.grid[0], 2 * self.grid[1])
        return TokenSequence(
            torch.cat(pieces, 1), grid, self.places, self.cells()
        )

    def cells(self) -> Tensor:
        """Place in the sequence for each fine cell, (B, 4n) int64.

        A fine token stands for its own cell, that of a kept region for the
        region's 2 x 2.
        """
        batch, num_kept = self.kept.shape
        device = self.kept.device
        slots = self.summary.patch_places(self.num_fine, device)
        slots = self.fine_start + slots
        cells = slots.new_empty(batch, 4 * self.grid[0] * self.grid[1])
        cells.scatter_(1, self.fine_index, slots.expand(batch, -1))
        first = self.token_order == 'first'
        start = self.num_fine + self.summary.count if first else 0
        kept = start + torch.arange(num_kept, device=device)
        children = fine_children(self.kept, self.grid[1]).flatten(1)
        repeated = kept.repeat_interleave(4).expand(batch, -1)
        return cells.scatter_(1, children, repeated)
