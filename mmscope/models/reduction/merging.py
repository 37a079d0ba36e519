"""Bipartite merging of tokens that keeps their order.

Token Merging (arXiv:2210.09461) as R-MeeTo (arXiv:2412.12496) uses it.
Letters: B batch, L tokens, M patches, r merged patches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmscope.models.layers import ranking
from mmscope.ops import at_least_float32


def num_merged(wanted: int, patches: int) -> int:
    """Count the patches that one merge of r takes away: min(r, M // 2)."""
    return min(wanted, patches // 2)


@torch.no_grad()
def match(patches: Tensor, count: int) -> Tensor:
    """Find who is merged into whom.

    Patches at even places are sources, those at odd places destinations. The
    sources with the largest cosine to their best destination are merged into
    it; several may meet in one. Ties go to the lower index.

    Args:
        patches (Tensor): What is compared, (B, M, D); a patch of zeros is
            like no other.
        count (int): Sources r to merge, at most M // 2.

    Returns:
        Tensor: Index of the patch that stands for each one, its own unless
        it is merged, (B, M) int64.
    """
    # Half precision has ties where there are none.
    with torch.autocast(patches.device.type, enabled=False):
        units = F.normalize(at_least_float32(patches), dim=-1)
        similarity = units[:, ::2] @ units[:, 1::2].mT
    best, partner = similarity.max(-1)
    order = ranking(best)[:, :count]
    own = torch.arange(patches.shape[1], device=patches.device)
    own = own.expand(len(patches), -1)
    return own.scatter(1, 2 * order, 2 * partner.gather(1, order) + 1)


@dataclass(frozen=True)
class Merge:
    """Which token of the shorter sequence each token becomes.

    Attributes:
        group (Tensor): Its place there, (B, L) int64.
        length (int): Tokens L - r of the shorter sequence.
        places (tuple[int, ...]): Where its summary token stands, if any.
    """

    group: Tensor
    length: int
    places: tuple[int, ...]

    @classmethod
    def of(cls, target: Tensor, count: int, places: tuple[int, ...]) -> Merge:
        """Lay the shorter sequence out.

        Patches stay in their order, merged ones at their destination's
        place. A summary token at p of L goes to floor(p * (L - r) / L).

        Args:
            target (Tensor): See :func:`match`, (B, M).
            count (int): Merged patches r.
            places (tuple[int, ...]): Place p of the summary token; empty
                without.

        Returns:
            Merge: Of all L tokens.
        """
        own = torch.arange(target.shape[1], device=target.device)
        group = ((target == own).cumsum(1) - 1).gather(1, target)
        before = target.shape[1] + len(places)
        after = before - count
        if not places:
            return cls(group, after, ())
        place = places[0]
        new = place * after // before
        group = group + (group >= new)
        summary = group.new_full((len(group), 1), new)
        group = torch.cat([group[:, :place], summary, group[:, place:]], 1)
        return cls(group, after, (new,))

    def sum(self, values: Tensor) -> Tensor:
        """Add up what meets in one token, (B, L, C) to (B, L - r, C)."""
        index = self.group.unsqueeze(-1).expand_as(values)
        shape = (len(values), self.length, values.shape[2])
        return values.new_zeros(shape).scatter_add(1, index, values)

    def mean(self, values: Tensor, sizes: Tensor) -> Tensor:
        """Average what meets in one token, weighted by its sizes.

        Args:
            values (Tensor): (B, L, C).
            sizes (Tensor): Patches in each token so far, (B, L, 1) float.

        Returns:
            Tensor: (B, L - r, C) in the dtype of ``values``.
        """
        total = self.sum(values * sizes) / self.sum(sizes)
        return total.to(values.dtype)
