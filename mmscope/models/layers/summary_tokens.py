"""Where the tokens stand that sum an image up: cls, registers, none."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

POSITIONS = ('middle', 'first', 'last', 'woven', 'none')


@dataclass(frozen=True)
class SummaryTokens:
    """Places of m summary tokens among k patches.

    ViM (arXiv:2401.09417) has one in the middle, VideoMamba
    (arXiv:2403.06977) and ViT one at the front, Mamba-Reg (arXiv:2405.14858)
    several woven in evenly, a segmentation ViM none.

    Attributes:
        position (str): 'middle', 'first', 'last', 'woven' or 'none'.
        count (int): m; 0 for 'none' alone.

    Raises:
        ValueError: If the position is unknown, or does not fit the count.
    """

    position: str = 'middle'
    count: int = 1

    def __post_init__(self) -> None:
        if self.position not in POSITIONS:
            raise ValueError(
                f'the place of summary tokens must be one of {POSITIONS}, '
                f'got {self.position!r}'
            )
        if (self.position == 'none') != (self.count == 0) or self.count < 0:
            raise ValueError(
                f'{self.count} summary tokens cannot stand at '
                f"{self.position!r}: 'none' has 0, the others at least 1"
            )

    def places(self, num_patches: int) -> tuple[int, ...]:
        """Find their indices in the sequence.

        Args:
            num_patches (int): Patches k beside them.

        Returns:
            tuple[int, ...]: m ascending indices below k + m.
        """
        if self.position == 'woven':
            step = num_patches // (self.count + 1) + 1
            return tuple(step * (j + 1) - 1 for j in range(self.count))
        starts = {'middle': num_patches // 2, 'last': num_patches}
        start = starts.get(self.position, 0)
        # Not the range itself: a compiler would hold its start for constant.
        return tuple(start + j for j in range(self.count))

    def places_of(self, counts: Tensor) -> Tensor:
        """Find their indices where images differ in their patches.

        Args:
            counts (Tensor): Patches k of each image, (B,) int64.

        Returns:
            Tensor: (B, m) int64, each row :meth:`places` of its k.
        """
        j = torch.arange(self.count, device=counts.device)
        k = counts[:, None]
        if self.position == 'woven':
            return (k // (self.count + 1) + 1) * (j + 1) - 1
        starts = {'middle': k // 2, 'last': k}
        return starts.get(self.position, 0 * k) + j

    def patch_places(
        self, num_patches: int, device: torch.device | None = None
    ) -> Tensor:
        """Find the indices of the patches in the sequence.

        Args:
            num_patches (int): Patches k.
            device (torch.device | None): Of the result. Defaults to None.

        Returns:
            Tensor: (k,) int64, ascending.
        """
        order = torch.arange(num_patches, device=device)
        places = order
        for j, place in enumerate(self.places(num_patches)):
            places = places + (order >= place - j).long()
        return places

    def pieces(self, patches: Tensor, summary: Tensor) -> list[Tensor]:
        """Cut the patches where summary tokens stand.

        Args:
            patches (Tensor): (B, k, D).
            summary (Tensor): (B, m, D).

        Returns:
            list[Tensor]: What :meth:`insert` puts together.
        """
        found, start = [], 0
        for j, place in enumerate(self.places(patches.shape[1])):
            found += [patches[:, start : place - j], summary[:, j : j + 1]]
            start = place - j
        return [*found, patches[:, start:]]

    def insert(self, patches: Tensor, summary: Tensor) -> Tensor:
        """Put the summary tokens into a sequence of patches.

        Args:
            patches (Tensor): (B, k, D).
            summary (Tensor): (B, m, D).

        Returns:
            Tensor: (B, k + m, D).
        """
        if not self.count:
            return patches
        return torch.cat(self.pieces(patches, summary), 1)

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Take the summary tokens out; inverse of :meth:`insert`.

        Args:
            tokens (Tensor): (B, k + m, ...).

        Returns:
            tuple[Tensor, Tensor]: Patches (B, k, ...) and summary tokens
            (B, m, ...).
        """
        places = self.places(tokens.shape[1] - self.count)
        return without_places(tokens, places), at_places(tokens, places)


def places_between(places: Tensor, num_patches: int) -> Tensor:
    """Find the indices that summary tokens leave to the patches.

    Args:
        places (Tensor): Of the summary tokens, (B, m) int64, ascending.
        num_patches (int): Patches k.

    Returns:
        Tensor: (B, k) int64, ascending.
    """
    order = torch.arange(num_patches, device=places.device)
    before = places - torch.arange(places.shape[1], device=places.device)
    return order + (order >= before[..., None]).sum(1)


def at_places(values: Tensor, places: tuple[int, ...]) -> Tensor:
    """Pick a few tokens, (B, L, ...) to (B, m, ...)."""
    if not places:
        return values[:, :0]
    # Slices: a compiler would hold an index for constant.
    return torch.cat([values[:, i : i + 1] for i in places], 1)


def without_places(values: Tensor, places: tuple[int, ...]) -> Tensor:
    """Leave a few tokens out, (B, L, ...) to (B, L - m, ...)."""
    if not places:
        return values
    starts = (0, *(place + 1 for place in places))
    stops = (*places, values.shape[1])
    pairs = zip(starts, stops, strict=True)
    return torch.cat([values[:, start:stop] for start, stop in pairs], 1)
