"""Sequences in another order of their patches, or with fewer of them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mmscope.models.layers import (
    TokenSequence,
    gather_tokens,
    places_between,
)


def arrange(
    sequence: TokenSequence, order: Tensor, places: Tensor
) -> TokenSequence:
    """Put some of a sequence's patches, in a new order, between its summary.

    Args:
        sequence (TokenSequence): Of M patches.
        order (Tensor): For each patch of the new sequence the index that it
            has among the old one's, (B, k) int64.
        places (Tensor): Where the summary tokens go, (B, m) int64.

    Returns:
        TokenSequence: Of k + m tokens; cells of patches that are gone are
        -1, and what is frozen stays as it was.
    """
    batch, length = sequence.tokens.shape[:2]
    old = torch.arange(length, device=places.device).expand(batch, -1)
    between = places_between(places, order.shape[1])
    patches, summary = sequence.patches(old), sequence.summary(old)
    # For each new place the old one.
    index = torch.cat([patches.gather(1, order), summary], 1)
    index = torch.empty_like(index).scatter(
        1, torch.cat([between, places], 1), index
    )
    new = torch.arange(index.shape[1], device=index.device).expand_as(index)
    moved = torch.full_like(old, -1).scatter(1, index, new)
    cells = sequence.cell_places
    gone = cells < 0
    residual = sequence.residual
    return replace(
        sequence,
        tokens=gather_tokens(sequence.tokens, index),
        residual=None if residual is None else gather_tokens(residual, index),
        places=places,
        cells=moved.gather(1, cells.clamp(min=0)).masked_fill(gone, -1),
    )
