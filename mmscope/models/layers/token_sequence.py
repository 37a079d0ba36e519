"""The sequence that travels through the blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmscope.models.layers.summary_tokens import (
    SummaryTokens,
    at_places,
    places_between,
    without_places,
)


@dataclass(frozen=True)
class TokenSequence:
    """Tokens, and which place in the sequence stands for each patch.

    Letters: B batch, L tokens, D channels, n cells of the grid in raster
    order, m summary tokens.

    Attributes:
        tokens (Tensor): Output of the block before, or the embeddings,
            (B, L, D).
        grid (tuple[int, int]): Rows and columns of the cells, n = rows *
            columns.
        places (tuple[int, ...] | Tensor): Where the summary tokens stand;
            (B, m) int64 where that differs between images.
        cells (Tensor | None): Place that stands for each cell, (B, n) int64,
            -1 where its patch was pruned. None where cell i is simply the
            i-th patch. Defaults to None.
        residual (Tensor | None): Residual stream, (B, L, D) float32; None
            before the first block. Defaults to None.
        frozen (Tensor | None): What maps show of pruned patches, (B, n, D);
            None where nothing was pruned or no map is wanted. Defaults to
            None.
    """

    tokens: Tensor
    grid: tuple[int, int]
    places: tuple[int, ...] | Tensor
    cells: Tensor | None = None
    residual: Tensor | None = None
    frozen: Tensor | None = None

    @classmethod
    def plain(
        cls,
        patches: Tensor,
        summary: Tensor,
        kind: SummaryTokens,
        grid: tuple[int, int],
    ) -> TokenSequence:
        """Lay out all patches in raster order.

        Args:
            patches (Tensor): (B, n, D).
            summary (Tensor): (B, m, D).
            kind (SummaryTokens): Where they go.
            grid (tuple[int, int]): Rows and columns.

        Returns:
            TokenSequence: Of n + m tokens.
        """
        places = kind.places(patches.shape[1])
        return cls(kind.insert(patches, summary), grid, places)

    @property
    def stream(self) -> Tensor:
        """``residual`` behind a block, where there is one: (B, L, D)."""
        assert self.residual is not None, 'there is none before a block ran'
        return self.residual

    @property
    def length(self) -> int:
        """Tokens L, summary included."""
        return self.tokens.shape[1]

    def with_tokens(self, tokens: Tensor, residual: Tensor) -> TokenSequence:
        """Move on by one block.

        Args:
            tokens (Tensor): The mixer's output, (B, L, D).
            residual (Tensor): The stream, (B, L, D).

        Returns:
            TokenSequence: The same places, other values.
        """
        return replace(self, tokens=tokens, residual=residual)

    def summary(self, values: Tensor) -> Tensor:
        """Pick what belongs to the summary tokens.

        Args:
            values (Tensor): One entry a token, (B, L, ...).

        Returns:
            Tensor: (B, m, ...).
        """
        if isinstance(self.places, tuple):
            return at_places(values, self.places)
        return gather_tokens(values, self.places)

    def patches(self, values: Tensor) -> Tensor:
        """Leave the summary tokens out.

        Args:
            values (Tensor): One entry a token, (B, L, ...).

        Returns:
            Tensor: (B, L - m, ...), in the order of the sequence.
        """
        if isinstance(self.places, tuple):
            return without_places(values, self.places)
        count = values.shape[1] - self.places.shape[1]
        return gather_tokens(values, places_between(self.places, count))

    @property
    def cell_places(self) -> Tensor:
        """``cells``, written out where it is None: (B, n) int64."""
        if self.cells is not None:
            return self.cells
        order = torch.arange(self.length, device=self.tokens.device)
        order = self.patches(order[None])
        return order.expand(len(self.tokens), -1)

    @property
    def kept(self) -> Tensor:
        """Raster indices of the patches that are left, (B, k) int64.

        Raises:
            ValueError: If images have kept different numbers of them.
        """
        alive = self.cell_places >= 0
        counts = alive.sum(1).tolist()
        if len(set(counts)) > 1:
            raise ValueError(f'images keep {counts} patches: ask one by one')
        # No images keep no patches.
        count = max(counts, default=0)
        return alive.nonzero()[:, 1].reshape(len(alive), count)

    def to_raster(
        self, values: Tensor, norm: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Bring a value for each token to the grid.

        Args:
            values (Tensor): (B, L, D).
            norm (Callable | None): Applied before anything moves. Defaults
                to None.

        Returns:
            Tensor: (B, n, D); a merged patch shows its group's token, a
            pruned one what was ``frozen`` when it went, without which there
            is nothing to show.
        """
        frozen = self.frozen
        if norm is not None:
            values = norm(values)
            frozen = None if frozen is None else norm(frozen)
        if self.cells is None:
            return self.patches(values)
        if frozen is None:
            return gather_tokens(values, self.cells)
        shown = gather_tokens(values, self.cells.clamp(min=0))
        return torch.where(self.cells[..., None] < 0, frozen, shown)


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Pick tokens by index.

    Args:
        tokens (Tensor): (B, L) or (B, L, D).
        index (Tensor): (B, M) int64.

    Returns:
        Tensor: (B, M) or (B, M, D).
    """
    if tokens.ndim == 2:
        return tokens.gather(1, index)
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.size(2)))
