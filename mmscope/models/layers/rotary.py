"""Rotary positions of a grid, as in ViM's models for dense tasks."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mmscope.models.layers.steps import Steps
from mmscope.models.layers.summary_tokens import SummaryTokens
from mmscope.models.layers.token_sequence import TokenSequence

BASE = 10000.0
# Cells of 224 pixels: positions of any grid span as many.
SPAN = 14


def rotary_angles(
    grid: tuple[int, int],
    embed_dims: int,
    device: torch.device | None = None,
) -> Tensor:
    """Compute by which angles the channel pairs of each cell are turned.

    RoFormer (arXiv:2104.09864), Eq. 15, on two axes as EVA-02
    (arXiv:2303.11331) has it: the first half of the pairs turns by the row,
    the second by the column. Positions are scaled so that a grid of any size
    spans ``SPAN``.

    Args:
        grid (tuple[int, int]): Rows and columns (h, w).
        embed_dims (int): Channels D, a multiple of 4.
        device (torch.device | None): Of the result. Defaults to None.

    Returns:
        Tensor: (h * w, D / 2) float32, in radians.
    """
    half = embed_dims // 2
    powers = torch.arange(0, half, 2, device=device).float() / half
    speeds = 1.0 / BASE**powers
    rows, columns = (
        (torch.arange(n, device=device) / n * SPAN)[:, None] * speeds
        for n in grid
    )
    shape = *grid, len(speeds)
    both = (
        rows[:, None].expand(shape),
        columns[None].expand(shape),
    )
    return torch.cat(both, -1).flatten(0, 1)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pairs of neighbouring channels.

    Args:
        x (Tensor): (B, L, D).
        angles (Tensor): (L, D / 2), in radians.

    Returns:
        Tensor: (B, L, D), float32 at least.
    """
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angles.cos(), angles.sin()
    turned = even * cos - odd * sin, odd * cos + even * sin
    return torch.stack(turned, -1).flatten(-2)


class RotarySteps(Steps):
    """Turns tokens and residual stream by their cell before every block.

    ViM's code for segmentation and detection (arXiv:2401.09417): turns add
    up from block to block in the stream. Summary tokens are left alone.

    Args:
        sequence (TokenSequence): Embedded images, all patches in raster
            order.
        summary (SummaryTokens): Where its summary tokens stand.
    """

    def __init__(
        self, sequence: TokenSequence, summary: SummaryTokens
    ) -> None:
        _, _, dims = sequence.tokens.shape
        device = sequence.tokens.device
        angles = rotary_angles(sequence.grid, dims, device)[None]
        still = angles.new_zeros(1, summary.count, dims // 2)
        self.angles = summary.insert(angles, still)[0]

    def before_block(self, i: int, sequence: TokenSequence) -> TokenSequence:
        """Turn what block ``i`` gets."""
        residual = sequence.residual
        if residual is not None:
            residual = rotate(residual, self.angles)
        tokens = rotate(sequence.tokens, self.angles)
        return replace(sequence, tokens=tokens, residual=residual)

    def shown(self, level: Tensor) -> Tensor:
        """Turn it once more: ViM takes it behind the next block's add."""
        return rotate(level, self.angles)
