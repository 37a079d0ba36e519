"""Tables of absolute position embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from mmscope.models.layers.summary_tokens import SummaryTokens

MIDDLE = SummaryTokens('middle', 1)
NO_SUMMARY = SummaryTokens('none', 0)


@dataclass(frozen=True)
class PositionTable:
    """What one parameter of position embeddings is made for.

    Attributes:
        grid (tuple[int, int]): Rows and columns (h, w) of patches.
        summary (SummaryTokens): Its entries that are summary tokens'.
    """

    grid: tuple[int, int]
    summary: SummaryTokens = MIDDLE

    @property
    def num_entries(self) -> int:
        """Rows of the parameter, h * w + m."""
        return self.grid[0] * self.grid[1] + self.summary.count


def resize_pos_embed(
    pos_embed: Tensor,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    summary: SummaryTokens = MIDDLE,
) -> Tensor:
    """Resample a position embedding to another grid, bicubically.

    The entries of summary tokens (ViM, arXiv:2401.09417, section 3.2: one at
    index M // 2 of M patches) are taken out, kept as they are and put where
    they belong in the new sequence.

    Args:
        pos_embed (Tensor): (1, h * w + m, D) for ``old_grid`` = (h, w).
        old_grid (tuple[int, int]): Grid of ``pos_embed``.
        new_grid (tuple[int, int]): Wanted grid (h', w').
        summary (SummaryTokens): The m entries. Defaults to one in the
            middle.

    Returns:
        Tensor: (1, h' * w' + m, D).

    Raises:
        ValueError: If ``pos_embed`` does not belong to ``old_grid``.
    """
    # No table of ours here: compilers trace this.
    needed = old_grid[0] * old_grid[1] + summary.count
    if pos_embed.shape[1] != needed:
        raise ValueError(
            f'position embedding has {pos_embed.shape[1]} entries; a grid of '
            f'{old_grid[0]} x {old_grid[1]} and {summary.count} summary '
            f'token(s) need {needed}'
        )
    if tuple(old_grid) == tuple(new_grid):
        return pos_embed
    patches, entries = summary.split(pos_embed)
    # (1, h * w, D) -> (1, D, h, w)
    grid = patches.reshape(1, *old_grid, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(
        grid.float(), size=tuple(new_grid), mode='bicubic', align_corners=False
    )
    resized = resized.to(pos_embed.dtype).flatten(2).transpose(1, 2)
    return summary.insert(resized, entries)


def square_grid(
    num_entries: int, summary: SummaryTokens = MIDDLE
) -> tuple[int, int] | None:
    """Grid of a square position embedding.

    Args:
        num_entries (int): Entries, those of summary tokens included.
        summary (SummaryTokens): Those. Defaults to one.

    Returns:
        tuple[int, int] | None: The grid, None if it is not a square.
    """
    cells = num_entries - summary.count
    side = math.isqrt(max(cells, 0))
    return (side, side) if side and side * side == cells else None
