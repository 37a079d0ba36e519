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
TOKEN_ORDERS = ('first', 'last', 'woven')


@dataclass
class FineLayout:
    """Order of the fine sequence (Algorithm 2, lines 9-18).

    With ViM's summary token the sequence is [first half of the 4K fine
    tokens, cls, second half, kept coarse tokens]. Fine tokens stand in fine
    raster order (line 12), kept regions in coarse raster order. Woven, a
    kept token stands where the first fine token of its region would, and
    cls in the middle of all.

    Attributes:
        grid (tuple[int, int]): Coarse grid (h, w).
        refined (Tensor): Refined regions, (B, K), sorted.
        kept (Tensor): The other regions, (B, n - K), sorted.
        summary (SummaryTokens): Their places among the fine tokens, woven
            among all.
        token_order (str): 'first' puts the fine tokens before the kept ones,
            'last' behind, 'woven' among them.
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
    def refined_mask(self) -> Tensor:
        """Which regions are refined, (B, n) bool."""
        regions = self.grid[0] * self.grid[1]
        mask = self.refined.new_zeros(len(self.refined), regions)
        return mask.scatter(1, self.refined, 1).bool()

    @property
    def woven(self) -> bool:
        """Whether there are kept tokens that stand among the fine ones."""
        return self.token_order == 'woven' and self.kept.shape[1] > 0

    @property
    def raster_order(self) -> Tensor:
        """Order that weaves [fine tokens, kept tokens], (B, M) int64."""
        first = fine_children(self.kept, self.grid[1])[..., 0]
        return torch.cat([self.fine_index, first], 1).argsort(1)

    @property
    def fine_start(self) -> int:
        """Index at which the block with the summary tokens starts."""
        return self.kept.shape[1] if self.token_order == 'last' else 0

    @property
    def num_beside(self) -> int:
        """Tokens of the block among which the summary tokens stand."""
        return self.num_fine + (self.kept.shape[1] if self.woven else 0)

    @property
    def places(self) -> tuple[int, ...]:
        """Indices of the summary tokens in the sequence."""
        places = self.summary.places(self.num_beside)
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
        kept = gather_tokens(coarse, self.kept)
        if self.woven:
            both = torch.cat([fine, kept], 1)
            woven = gather_tokens(both, self.raster_order)
            pieces = self.summary.pieces(woven, summary)
        else:
            pieces = [*self.summary.pieces(fine, summary), kept]
        if self.token_order == 'last':
            pieces = [kept, *pieces[:-1]]
        grid = (2 * self.grid[0], 2 * self.grid[1])
        return TokenSequence(
            torch.cat(pieces, 1), grid, self.places, self.cells()
        )

    def cells(self) -> Tensor:
        """Place in the sequence for each fine cell, (B, 4n) int64.

        A fine token stands for its own cell, that of a kept region for the
        region's 2 x 2.
        """
        fine, kept = self._slots()
        cells = fine.new_empty(len(kept), 4 * self.grid[0] * self.grid[1])
        cells.scatter_(1, self.fine_index, fine)
        children = fine_children(self.kept, self.grid[1]).flatten(1)
        return cells.scatter_(1, children, kept.repeat_interleave(4, 1))

    def _slots(self) -> tuple[Tensor, Tensor]:
        """Places of the fine (B, 4K) and the kept tokens (B, n - K)."""
        batch, num_kept = self.kept.shape
        beside = self.summary.patch_places(self.num_beside, self.kept.device)
        beside = self.fine_start + beside
        if self.woven:
            slots = beside[self.raster_order.argsort(1)]
            return slots[:, : self.num_fine], slots[:, self.num_fine :]
        behind = self.num_fine + self.summary.count
        start = 0 if self.fine_start else behind
        kept = start + torch.arange(num_kept, device=self.kept.device)
        return beside.expand(batch, -1), kept.expand(batch, -1)
