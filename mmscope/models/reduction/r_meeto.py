"""R-MeeTo: merge similar tokens, and train a few epochs more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmscope.models.layers import (
    NO_STEPS,
    Record,
    Steps,
    TokenSequence,
    gather_tokens,
)
from mmscope.models.reduction.merging import Merge, match, num_merged
from mmscope.models.reduction.settings import whole
from mmscope.models.reduction.stages import ReductionStage
from mmscope.models.reduction.token_reduction import (
    TokenReduction,
    check_family,
)
from mmscope.registry import MODELS

if TYPE_CHECKING:
    from mmscope.models.backbones.token_backbone import TokenBackbone


@MODELS.register_module()
class RMeeTo(TokenReduction):
    """Merges similar patches before every other block.

    R-MeeTo, arXiv:2412.12496, on ViM and VideoMamba. What is compared is the
    mixer output of the block before; it and the residual stream become means
    weighted by sizes. The same in training and in evaluation, without a
    parameter: released weights load. ``record.reductions`` has a
    ``group_of_input`` for each merge that takes something away: one that
    finds a single patch left makes no entry. docs/token_reduction.md says
    where the released code does something else.

    Example::

        backbone = dict(
            type='mmscope.VisionMamba',
            reduction=dict(type='mmscope.RMeeTo', merge_tokens=11),
        )

    Args:
        merge_tokens (int): Patches r that one merge takes away, at most half
            of those that are left; 0 merges nothing. Defaults to 11.
        merge_interval (int): Merge before the blocks whose index, from 0, is
            a positive multiple of it. Defaults to 2.

    Raises:
        ValueError: If an argument is outside its range.
    """

    checks = {
        'merge_tokens': whole('patches', 0),
        'merge_interval': whole('blocks', 1),
    }

    def __init__(
        self, merge_tokens: int = 11, merge_interval: int = 2
    ) -> None:
        self.merge_tokens = merge_tokens
        self.merge_interval = merge_interval

    def install(self, backbone: TokenBackbone) -> None:
        """Refuse, by ValueError, what is neither ViM nor VideoMamba."""
        check_family(self, backbone)

    def start(self, backbone: TokenBackbone, sequence: TokenSequence) -> Steps:
        """Make the steps of one pass, none where r is 0."""
        return MergeSteps(self) if self.merge_tokens else NO_STEPS

    def merges_before(self, i: int) -> bool:
        """Tell whether there is a merge before block ``i``."""
        return i > 0 and i % self.merge_interval == 0

    def _merges(self, depth: int, patches: int) -> list[tuple[int, int]]:
        """Patches before, and taken away, at each block."""
        found = []
        for i in range(depth):
            merges = self.merges_before(i)
            count = num_merged(self.merge_tokens, patches) if merges else 0
            found.append((patches, count))
            patches -= count
        return found

    def lengths(self, backbone: TokenBackbone, patches: int) -> list[int]:
        """Tell the length of the sequence in each block."""
        summary = backbone.summary_tokens.count
        merges = self._merges(backbone.num_layers, patches)
        return [before - count + summary for before, count in merges]

    def extra_macs(
        self, backbone: TokenBackbone, patches: int, directions: int = 2
    ) -> int:
        """Count the matching: sources * destinations * D in each merge."""
        pairs = sum(
            (before - before // 2) * (before // 2)
            for before, count in self._merges(backbone.num_layers, patches)
            if count
        )
        return pairs * backbone.embed_dims


class MergeSteps(Steps):
    """The merges of one pass.

    Args:
        settings (RMeeTo): Where and how many.
    """

    def __init__(self, settings: RMeeTo) -> None:
        self.settings = settings
        self.sizes: Tensor | None = None
        self.group: Tensor | None = None
        self.stages: list[ReductionStage] = []

    def before_block(self, i: int, sequence: TokenSequence) -> TokenSequence:
        """Merge, where it is due and there is something to merge."""
        if not self.settings.merges_before(i):
            return sequence
        patches = sequence.patches(sequence.tokens)
        count = num_merged(self.settings.merge_tokens, patches.shape[1])
        if not count:
            return sequence
        places = sequence.places
        assert isinstance(places, tuple), 'merging keeps images alike'
        merge = Merge.of(match(patches, count), count, places)
        self._note(merge)
        return self._merged(sequence, merge)

    def _note(self, merge: Merge) -> None:
        group = merge.group
        if self.group is not None:
            group = group.gather(1, self.group)
        self.group = group
        self.stages.append(ReductionStage(group_of_input=group))

    def _merged(self, sequence: TokenSequence, merge: Merge) -> TokenSequence:
        sizes = self.sizes
        if sizes is None:
            tokens = sequence.tokens[..., :1]
            sizes = torch.ones_like(tokens, dtype=torch.float32)
        self.sizes = merge.sum(sizes)
        return replace(
            sequence,
            tokens=merge.mean(sequence.tokens, sizes),
            residual=merge.mean(sequence.stream, sizes),
            places=merge.places,
            cells=gather_tokens(merge.group, sequence.cell_places),
        )

    def finish(
        self, sequence: TokenSequence, tokens: Tensor, record: Record
    ) -> None:
        """Note the groups of each merge."""
        record.reductions.extend(self.stages)
