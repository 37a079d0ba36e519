"""HiddenAlign: prune tokens, and let the state pass where they stood."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

from mmscope.models.layers import (
    NO_STEPS,
    BidirectionalMamba,
    Mixed,
    MixerPlan,
    Record,
    Steps,
    SummaryTokens,
    TokenSequence,
)
from mmscope.models.reduction.pruning import (
    check_layers,
    keep_top,
    prune,
    raster_indices,
)
from mmscope.models.reduction.settings import flag, one_of, share
from mmscope.models.reduction.stages import ReductionStage
from mmscope.models.reduction.token_reduction import (
    TokenReduction,
    check_family,
)
from mmscope.registry import MODELS

if TYPE_CHECKING:
    from mmscope.models.backbones.token_backbone import TokenBackbone

ALIGNMENTS = ('decay', 'none')
# Score that a mixer is asked for. 'clip' is the paper's sum of both scans,
# up to a factor, which no ranking sees.
SCORE_SOURCES = {'backward_gated': 'backward_gated', 'scan': 'clip'}


@MODELS.register_module()
class HiddenAlign(TokenReduction):
    """Prunes patches after some blocks, and aligns the hidden states.

    ToP-ViM (arXiv:2409.18962) on ViM and VideoMamba. The authors released no
    alignment; ours takes a pruned patch for a step without input: in each
    direction the state decays by exp(g * softplus(dt_proj.bias) * A) before
    a patch that follows g pruned ones. That is one larger exponent a token,
    no more steps. Nothing is counted before the first kept patch, and cls
    does not interrupt the counting. 'hold', to pass the state on unchanged,
    would be 'none' in a scan of one dimension. The same in training and in
    evaluation, without a parameter; no gradient passes through the
    selection. ``record.reductions`` has ``kept`` for each stage.

    Example::

        backbone = dict(
            type='mmscope.VisionMamba',
            arch='small',
            reduction=dict(type='mmscope.HiddenAlign', keep_ratio=0.8),
        )

    Args:
        prune_layers (Sequence[int]): Finished blocks after which to prune,
            ascending, from 1; those beyond the last block are ignored.
            Defaults to (5, 10, 15).
        keep_ratio (float): Fraction of the patches that a stage keeps, in
            (0, 1]; 1 prunes nothing. Defaults to 0.8.
        alignment (str): 'decay' or 'none' (the released code's behaviour,
            without its bugs). Defaults to 'decay'.
        score_source (str): 'backward_gated' (the released code's: sum over
            channels of max(0, y_b * silu(z))) or 'scan' (the paper's: of
            max(0, y), ungated, both directions). Defaults to
            'backward_gated'.
        round_even (bool): Keep an even number of patches, as the released
            code does, but never 0: of one the one stays. Defaults to True.

    Raises:
        ValueError: If an argument is outside its set or range.
    """

    checks = {
        'prune_layers': lambda _, value: check_layers(value),
        'keep_ratio': share,
        'alignment': one_of(ALIGNMENTS),
        'score_source': one_of(tuple(SCORE_SOURCES)),
        'round_even': flag,
    }

    def __init__(
        self,
        prune_layers: Sequence[int] = (5, 10, 15),
        keep_ratio: float = 0.8,
        alignment: str = 'decay',
        score_source: str = 'backward_gated',
        round_even: bool = True,
    ) -> None:
        self.prune_layers = prune_layers
        self.keep_ratio = keep_ratio
        self.alignment = alignment
        self.score_source = score_source
        self.round_even = round_even

    def install(self, backbone: TokenBackbone) -> None:
        """Refuse, by ValueError, what is neither ViM nor VideoMamba."""
        check_family(self, backbone)
        depth = backbone.num_layers
        beyond = [i for i in self.prune_layers if i >= depth]
        if beyond:
            print_log(
                f'HiddenAlign ignores prune_layers {beyond}: no block follows '
                f'them in a backbone of {depth}',
                logger='current',
                level=logging.WARNING,
            )

    def num_kept(self, patches: int) -> int:
        """Count the patches that a stage keeps.

        Args:
            patches (int): M, that reach it.

        Returns:
            int: ceil(keep_ratio * M), the next lower even number with
            ``round_even`` (1 where that is 0); M where the ratio is 1.
        """
        if self.keep_ratio == 1:
            return patches
        # Rounding noise does not add a patch.
        kept = math.ceil(round(self.keep_ratio * int(patches), 6))
        return max(kept - kept % 2 if self.round_even else kept, 1)

    def stages(self, backbone: TokenBackbone, patches: int) -> dict[int, int]:
        """Find the blocks before which is pruned, and what is left there."""
        found = {}
        for layer in self.prune_layers:
            kept = self.num_kept(patches)
            if layer < backbone.num_layers and kept < patches:
                found[layer] = patches = kept
        return found

    def start(self, backbone: TokenBackbone, sequence: TokenSequence) -> Steps:
        """Make the steps of one pass, none where nothing is pruned."""
        stages = self.stages(backbone, sequence.grid[0] * sequence.grid[1])
        return PruneSteps(self, backbone, stages) if stages else NO_STEPS

    def lengths(self, backbone: TokenBackbone, patches: int) -> list[int]:
        """Tell the length of the sequence in each block."""
        stages, found = self.stages(backbone, patches), []
        for i in range(backbone.num_layers):
            patches = stages.get(i, patches)
            found.append(patches + backbone.summary_tokens.count)
        return found

    def extra_macs(
        self, backbone: TokenBackbone, patches: int, directions: int = 2
    ) -> int:
        """Count the alignment: L * d_inner a direction, once pruned."""
        stages = self.stages(backbone, patches)
        if self.alignment == 'none' or not stages:
            return 0
        behind = self.lengths(backbone, patches)[min(stages) :]
        mixer: BidirectionalMamba = backbone.layers[0].mixer
        return directions * sum(behind) * mixer.d_inner


def idle_steps(raster: Tensor, kind: SummaryTokens) -> Tensor:
    """Count the pruned patches before each token, in both directions.

    Args:
        raster (Tensor): Raster indices of the patches, (B, k), ascending.
        kind (SummaryTokens): Where others stand among them.

    Returns:
        Tensor: As the forward and as the backward scan meets them,
        (2, B, k + m) in the dtype of ``raster``.
    """
    skipped = raster.diff(dim=1) - 1
    both = F.pad(skipped, (1, 0)), F.pad(skipped, (0, 1))
    patches, count = raster.shape[1], raster.shape[1] + kind.count
    gaps = raster.new_zeros(2, len(raster), count)
    places = kind.patch_places(patches, raster.device)
    for direction, found in enumerate(both):
        gaps[direction].index_copy_(1, places, found)
    return gaps


class PruneSteps(Steps):
    """The pruning of one pass.

    Args:
        settings (HiddenAlign): How.
        backbone (TokenBackbone): It runs.
        stages (dict[int, int]): See :meth:`HiddenAlign.stages`.
    """

    def __init__(
        self,
        settings: HiddenAlign,
        backbone: TokenBackbone,
        stages: dict[int, int],
    ) -> None:
        self.backbone = backbone
        self.counts = stages
        self.score = SCORE_SOURCES[settings.score_source]
        self.aligns = settings.alignment == 'decay'
        self.scores: Tensor | None = None
        self.gaps: Tensor | None = None
        self.stages: list[ReductionStage] = []

    def before_block(self, i: int, sequence: TokenSequence) -> TokenSequence:
        """Prune by the scores of the block before."""
        if i not in self.counts:
            return sequence
        assert self.scores is not None, 'the block before was asked'
        scores = sequence.patches(self.scores)
        kept = keep_top(scores, self.counts[i])
        raster = raster_indices(sequence).gather(1, kept)
        self.stages.append(ReductionStage(kept=raster))
        if self.aligns:
            self.gaps = idle_steps(raster, self.backbone.summary_tokens)
        return prune(sequence, kept, self.backbone)

    def plan(self, i: int, sequence: TokenSequence) -> MixerPlan:
        """Ask for scores before a stage, and for gaps behind the first."""
        score = self.score if i + 1 in self.counts else None
        return MixerPlan(score=score, gaps=self.gaps)

    def after_block(
        self, i: int, sequence: TokenSequence, mixed: Mixed
    ) -> None:
        """Keep the scores."""
        self.scores = mixed.scores

    def finish(
        self, sequence: TokenSequence, tokens: Tensor, record: Record
    ) -> None:
        """Note what each stage kept."""
        record.reductions.extend(self.stages)
