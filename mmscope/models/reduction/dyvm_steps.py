"""One pass through a backbone with DyVM, in evaluation and in training."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from mmscope.models.layers import (
    BidirectionalMamba,
    MixerPlan,
    Record,
    Steps,
    TokenSequence,
    add_residual,
    ranking,
)
from mmscope.models.reduction.arrangement import arrange
from mmscope.models.reduction.dyvm_decisions import (
    DyVMRecord,
    draw_directions,
    draw_kept,
)
from mmscope.models.reduction.pruning import freeze, keep_top, prune
from mmscope.models.reduction.stages import ReductionStage

if TYPE_CHECKING:
    from mmscope.models.backbones.token_backbone import TokenBackbone
    from mmscope.models.reduction.dyvm import DyVM


class DyVMSteps(Steps):
    """What evaluation and training have in common.

    Args:
        reduction (DyVM): Settings.
        backbone (TokenBackbone): It runs; modules are looked up there.
        sequence (TokenSequence): Embedded images.
    """

    def __init__(
        self,
        reduction: DyVM,
        backbone: TokenBackbone,
        sequence: TokenSequence,
    ) -> None:
        self.settings, self.backbone = reduction, backbone
        self.layers = reduction.stage_layers(backbone)
        self.cells = sequence.grid[0] * sequence.grid[1]
        self.forced, self.device = reduction.forced, sequence.tokens.device
        shape = len(sequence.tokens), self.cells
        self.forced.check(backbone.num_layers, len(self.layers), shape)

    def new_record(self) -> DyVMRecord:
        """Make a record with room for decisions."""
        return DyVMRecord()

    def before_block(self, i: int, sequence: TokenSequence) -> TokenSequence:
        """Prune before the blocks that a stage stands before."""
        if i not in self.layers:
            return sequence
        return self.prune(self.layers.index(i), sequence)

    @abstractmethod
    def prune(self, s: int, sequence: TokenSequence) -> TokenSequence:
        """Run stage ``s``."""

    def log_probs(
        self, s: int, sequence: TokenSequence, alive: Tensor | None = None
    ) -> Tensor:
        """Ask predictor ``s`` about the sequence's patches: (B, M, 2)."""
        stream = add_residual(sequence.tokens, sequence.residual)
        predictor = self.backbone.score_predictors[s]
        return predictor(sequence.patches(stream), alive)

    def forced_kept(self, s: int) -> Tensor | None:
        """Patches to keep in stage ``s``, (B, n) bool in raster order."""
        tokens = self.forced.tokens
        return None if tokens is None else tokens[s].to(self.device)

    def forced_directions(self, i: int) -> Tensor | None:
        """Directions to run in block ``i``, (B, 2) bool."""
        blocks = self.forced.blocks
        return None if blocks is None else blocks[i].to(self.device)

    def block_logits(
        self,
        i: int,
        sequence: TokenSequence,
        xz: Tensor,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Ask block ``i`` which directions to run: (B, 2).

        It reads the row of the cls token, the mean of the registers' rows,
        or, where there is no summary token, the mean over the sequence:
        here in training too, over the tokens that are left, where DyVM's
        own code divides by one token more.
        """
        if self.backbone.summary_tokens.count:
            row = sequence.summary(xz).mean(1)
        elif mask is None:
            row = xz.mean(1)
        else:
            row = (xz * mask).sum(1) / mask.sum(1).clamp(min=1)
        mixer: BidirectionalMamba = self.backbone.layers[i].mixer
        head = mixer.block_head
        # An adapter around the head has no weight of its own.
        dtype = next(head.parameters(), row).dtype
        return head(row.to(dtype)).float()


class PruningSteps(DyVMSteps):
    """Evaluation: dropped patches leave the sequence."""

    def __init__(
        self,
        reduction: DyVM,
        backbone: TokenBackbone,
        sequence: TokenSequence,
    ) -> None:
        super().__init__(reduction, backbone, sequence)
        self.stages: list[ReductionStage] = []

    def prune(self, s: int, sequence: TokenSequence) -> TokenSequence:
        """Keep the best patches, in raster order."""
        kept = self.keep(s, sequence)
        if kept is not None:
            sequence = prune(sequence, kept, self.backbone)
        self.stages.append(ReductionStage(sequence.kept))
        return sequence

    def keep(self, s: int, sequence: TokenSequence) -> Tensor | None:
        """Indices among the patches, (B, k); None where none goes."""
        alive = sequence.length - self.backbone.summary_tokens.count
        forced = self.forced_kept(s)
        if forced is not None:
            return _equal_rows(forced[sequence.cell_places >= 0], len(forced))
        count = self.settings.count(s, self.cells)
        if count == alive:
            return None
        return keep_top(self.log_probs(s, sequence)[..., 0], count)

    def plan(self, i: int, sequence: TokenSequence) -> MixerPlan:
        """Skip directions that are not probable enough."""
        forced = self.forced_directions(i)
        if forced is not None:
            return MixerPlan(directions=lambda xz: forced)
        cut = self.settings.block_cut
        return MixerPlan(
            directions=lambda xz: self.block_logits(i, sequence, xz) > cut
        )

    def finish(
        self, sequence: TokenSequence, tokens: Tensor, record: Record
    ) -> None:
        """Say what each stage kept."""
        record.reductions += self.stages


def _equal_rows(kept: Tensor, batch: int) -> Tensor:
    """Turn flat flags of alive patches into indices, (B, k) int64."""
    kept = kept.unflatten(0, (batch, -1))
    counts = kept.sum(1)
    if not bool((counts == counts[0]).all()):
        raise ValueError(
            f'forced tokens keep {counts.tolist()} patches: in evaluation all '
            'images of a batch keep equally many. Run them one by one'
        )
    return kept.nonzero()[:, 1].unflatten(0, (batch, -1))


class MaskingSteps(DyVMSteps):
    """Training: dropped patches go behind the others, and add nothing.

    Both scans then meet the kept ones as evaluation lays them out: the
    forward one has passed them when dropped ones begin, the backward one
    comes to them with a state of 0.
    """

    def __init__(
        self,
        reduction: DyVM,
        backbone: TokenBackbone,
        sequence: TokenSequence,
    ) -> None:
        super().__init__(reduction, backbone, sequence)
        order = torch.arange(self.cells, device=self.device)
        # Raster index of each patch, in the order of the sequence.
        self.positions = order.expand(len(sequence.tokens), -1)
        self.policy: Tensor | None = None
        self.mask: Tensor | None = None
        self.decisions: list[Tensor] = []

    def prune(self, s: int, sequence: TokenSequence) -> TokenSequence:
        """Decide with noise, and put what is kept to the front."""
        decision = self.decide(s, sequence)
        self.decisions.append(decision)
        frozen = freeze(sequence, self.backbone)
        # An image of NaN keeps nothing; the mask spreads its NaN.
        hard = decision.detach().nan_to_num(0.0)
        order = ranking(hard)
        places = self.backbone.summary_tokens.places_of(hard.sum(1).long())
        sequence = arrange(sequence, order, places)
        self.positions = self.positions.gather(1, order)
        self.policy = decision.gather(1, order)
        self.mask = self.with_summary(self.policy, sequence, places)
        gone = self.mask[..., 0].detach() == 0
        cells = sequence.cell_places
        gone = gone.gather(1, cells.clamp(min=0)) | (cells < 0)
        return replace(
            sequence, cells=cells.masked_fill(gone, -1), frozen=frozen
        )

    def decide(self, s: int, sequence: TokenSequence) -> Tensor:
        """Decide about each patch, in the order of the sequence: (B, M)."""
        log_probs = self.log_probs(s, sequence, self.policy)
        draws = self.settings.exponential(
            'token', s, tuple(log_probs.shape), self.device
        )
        forced = self.forced_kept(s)
        if forced is not None:
            forced = forced.gather(1, self.positions)
        decision = draw_kept(log_probs, draws, forced)
        return decision if self.policy is None else decision * self.policy

    def with_summary(
        self, policy: Tensor, sequence: TokenSequence, summary: Tensor
    ) -> Tensor:
        """Add 1 for the summary tokens: (B, M) to (B, L, 1)."""
        ones = policy.new_ones(len(policy), summary.shape[1])
        values = torch.cat([policy, ones], 1)
        length = sequence.length
        index = torch.arange(length, device=policy.device)
        index = index.expand(len(policy), -1)
        places = torch.cat([sequence.patches(index), summary], 1)
        return torch.zeros_like(values).scatter(1, places, values)[..., None]

    def plan(self, i: int, sequence: TokenSequence) -> MixerPlan:
        """Weigh directions, with noise that recomputation finds again."""
        shape = 2, len(sequence.tokens), 2
        draws = self.settings.exponential('block', i, shape, self.device)
        directions = partial(self.directions, i, sequence, draws, self.mask)
        return MixerPlan(directions=directions, mask=self.mask)

    def directions(
        self,
        i: int,
        sequence: TokenSequence,
        draws: Tensor,
        mask: Tensor | None,
        xz: Tensor,
    ) -> Tensor:
        """Decide about both directions of block ``i``: (B, 2) float."""
        logits = self.block_logits(i, sequence, xz, mask)
        return draw_directions(logits, draws, self.forced_directions(i))

    def finish(
        self, sequence: TokenSequence, tokens: Tensor, record: Record
    ) -> None:
        """Hand over what the losses need."""
        made = cast(DyVMRecord, record)
        made.reductions += [ReductionStage() for _ in self.decisions]
        made.decisions = self.decisions
        made.positions = self.positions
        made.token_policy = self.policy
        made.tokens = sequence.patches(tokens)
