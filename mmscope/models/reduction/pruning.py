"""What reductions that drop patches have in common."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmscope.models.layers import (
    SummaryTokens,
    TokenSequence,
    gather_tokens,
    ranking,
)

if TYPE_CHECKING:
    from mmscope.models.backbones.token_backbone import TokenBackbone


def check_layers(layers: Sequence[int]) -> tuple[int, ...]:
    """Return counts of finished blocks as a tuple.

    Args:
        layers (Sequence[int]): Ascending, from 1.

    Returns:
        tuple[int, ...]: The same.

    Raises:
        ValueError: If they are no whole numbers, unsorted, doubled, or
            below 1.
    """
    listed = isinstance(layers, Sequence) and not isinstance(layers, str)
    whole = listed and all(
        isinstance(i, Integral) and not isinstance(i, bool) for i in layers
    )
    if not whole or list(layers) != sorted({i for i in layers if i > 0}):
        raise ValueError(
            'prune_layers must be ascending, without repeats and 1 or more '
            f'(counts of finished blocks), such as (5, 10, 15), got {layers!r}'
        )
    return tuple(layers)


def keep_top(scores: Tensor, count: int) -> Tensor:
    """Find the patches with the largest scores.

    Args:
        scores (Tensor): (B, M).
        count (int): Patches k to keep, at most M.

    Returns:
        Tensor: (B, k) int64, ascending. Of equal scores the lower index
        stays.
    """
    return ranking(scores)[:, :count].sort(1).values


def raster_indices(sequence: TokenSequence) -> Tensor:
    """Find the cell of each patch of a sequence.

    Args:
        sequence (TokenSequence): Of any patches, each of one cell.

    Returns:
        Tensor: (B, M) int64, in the order of the sequence.
    """
    cells = sequence.cell_places
    order = torch.arange(cells.shape[1], device=cells.device)
    length = sequence.length
    # What was pruned goes to one more place, which is cut off.
    found = cells.new_zeros(len(cells), length + 1).scatter(
        1, torch.where(cells < 0, length, cells), order.expand_as(cells)
    )
    return sequence.patches(found[:, :length])


def prune(
    sequence: TokenSequence, kept: Tensor, backbone: TokenBackbone
) -> TokenSequence:
    """Go on with some of the patches and all summary tokens.

    Args:
        sequence (TokenSequence): Of M patches.
        kept (Tensor): Indices among these patches, (B, k) int64, ascending.
        backbone (TokenBackbone): It runs; it says where the summary tokens
            stand among k patches, and how maps show those that go.

    Returns:
        TokenSequence: Of k patches and the summary tokens.
    """
    kind, raster = backbone.summary_tokens, raster_indices(sequence)
    raster = raster.gather(1, kept)
    count = kept.shape[1]
    places = kind.patch_places(count, kept.device).expand_as(raster)
    cells = raster.new_full((len(raster), _num_cells(sequence)), -1)
    return TokenSequence(
        _shorten(sequence, sequence.tokens, kept, kind),
        sequence.grid,
        kind.places(count),
        cells.scatter(1, raster, places),
        _shorten(sequence, sequence.stream, kept, kind),
        freeze(sequence, backbone),
    )


def _num_cells(sequence: TokenSequence) -> int:
    return sequence.grid[0] * sequence.grid[1]


def _shorten(
    sequence: TokenSequence, values: Tensor, kept: Tensor, kind: SummaryTokens
) -> Tensor:
    patches = gather_tokens(sequence.patches(values), kept)
    return kind.insert(patches, sequence.summary(values))


def freeze(sequence: TokenSequence, backbone: TokenBackbone) -> Tensor | None:
    """Keep what maps show of all patches now.

    Args:
        sequence (TokenSequence): Before some of them go.
        backbone (TokenBackbone): It runs.

    Returns:
        Tensor | None: (B, n, D) in raster order; None where no maps are
        wanted.
    """
    if backbone.out_type != 'featmap':
        return None
    shown = backbone.level(sequence.tokens, sequence.stream)
    return sequence.to_raster(shown)
