"""Absolute position embeddings with the cls entry in the middle."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_pos_embed(
    pos_embed: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int]
) -> Tensor:
    """Resample a position embedding to another grid, bicubically.

    The entry of the cls token, at index M // 2 of M patches (ViM,
    arXiv:2401.09417, section 3.2), is taken out, kept as it is and put into
    the middle of the new sequence.

    Args:
        pos_embed (Tensor): (1, h * w + 1, D) for ``old_grid`` = (h, w).
        old_grid (tuple[int, int]): Grid of ``pos_embed``.
        new_grid (tuple[int, int]): Wanted grid (h', w').

    Returns:
        Tensor: (1, h' * w' + 1, D).

    Raises:
        ValueError: If ``pos_embed`` does not belong to ``old_grid``.
    """
    cells = old_grid[0] * old_grid[1]
    if pos_embed.shape[1] != cells + 1:
        raise ValueError(
            f'position embedding has {pos_embed.shape[1]} entries; a grid of '
            f'{old_grid[0]} x {old_grid[1]} and one cls token need {cells + 1}'
        )
    if tuple(old_grid) == tuple(new_grid):
        return pos_embed
    middle = cells // 2
    cls = pos_embed[:, middle : middle + 1]
    grid = torch.cat([pos_embed[:, :middle], pos_embed[:, middle + 1 :]], 1)
    # (1, h * w, D) -> (1, D, h, w)
    grid = grid.reshape(1, *old_grid, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(
        grid.float(), size=tuple(new_grid), mode='bicubic', align_corners=False
    )
    resized = resized.to(pos_embed.dtype).flatten(2).transpose(1, 2)
    return insert_token(resized, cls, new_grid[0] * new_grid[1] // 2)


def square_grid(num_entries: int) -> tuple[int, int] | None:
    """Grid of a square position embedding with one cls entry.

    Args:
        num_entries (int): Entries, cls included.

    Returns:
        tuple[int, int] | None: The grid, None if it is not a square.
    """
    side = math.isqrt(max(num_entries - 1, 0))
    return (side, side) if side * side == num_entries - 1 else None


def insert_token(tokens: Tensor, token: Tensor, index: int) -> Tensor:
    """Insert one token into every sequence.

    Args:
        tokens (Tensor): (B, L, D).
        token (Tensor): (B, 1, D).
        index (int): Place of the new token in the result.

    Returns:
        Tensor: (B, L + 1, D).
    """
    return torch.cat([tokens[:, :index], token, tokens[:, index:]], 1)


def remove_token(tokens: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """Split one token off every sequence; inverse of :func:`insert_token`.

    Args:
        tokens (Tensor): (B, L + 1, D).
        index (int): Place of the token.

    Returns:
        tuple[Tensor, Tensor]: The other tokens (B, L, D) and the token
        (B, D).
    """
    rest = torch.cat([tokens[:, :index], tokens[:, index + 1 :]], 1)
    return rest, tokens[:, index]
