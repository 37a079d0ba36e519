"""Dynamic Vision Mamba: pruned patches, skipped directions."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, cast

import torch
from mmengine.logging import print_log
from mmengine.model import ModuleList
from torch import Tensor

from mmscope.models.layers import (
    BidirectionalMamba,
    Record,
    Steps,
    TokenSequence,
    is_observed,
)
from mmscope.models.reduction.dyvm_decisions import (
    DyVMRecord,
    ForcedDecisions,
    forced_decisions,
)
from mmscope.models.reduction.dyvm_modules import BlockHead, ScorePredictor
from mmscope.models.reduction.dyvm_steps import MaskingSteps, PruningSteps
from mmscope.models.reduction.pruning import check_layers
from mmscope.models.reduction.settings import probability, share, weight
from mmscope.models.reduction.token_reduction import TokenReduction
from mmscope.registry import MODELS

if TYPE_CHECKING:
    from mmscope.models.backbones.token_backbone import TokenBackbone


@MODELS.register_module()
class DyVM(TokenReduction):
    """Prunes patches in stages, and lets images skip scan directions.

    Dynamic Vision Mamba, arXiv:2504.04787, after the code of its authors.
    Before each layer of ``prune_layers`` a small predictor scores the patches
    that are left, and the best ``int(r ** (s + 1) * M)`` of all M stay, the
    summary tokens always. In every block a linear head decides from the
    summary tokens which of the two directions an image runs.

    In training nothing is removed: patches that a Gumbel-softmax drops go
    behind the others and are masked, and both ratios are targets of the loss
    (:meth:`losses`). Whoever trains adds it: ``TokenReductionHook`` in a
    plain host, or ``DistilledClassifier``. In feature maps a pruned patch
    shows what it was when it went.

    Example::

        backbone = dict(
            type='mmscope.VisionMamba',
            arch='small',
            reduction=dict(type='mmscope.DyVM', token_keep_ratio=0.7),
        )

    Args:
        prune_layers (Sequence[int]): Blocks before which patches go,
            ascending, at least 1. Those that the backbone does not have are
            ignored. Defaults to (6, 12, 18).
        token_keep_ratio (float): r in (0, 1]. Defaults to 0.7.
        block_keep_ratio (float): Share R in (0, 1] of the directions that
            training aims at; evaluation decides by the image. Defaults to
            0.8.
        ratio_weight (float): Weight of the two ratio losses, finite and
            >= 0. Defaults to 10.

    Raises:
        ValueError: If an argument is outside its range.
    """

    checks = {
        'prune_layers': lambda _, value: check_layers(value),
        'token_keep_ratio': share,
        'block_keep_ratio': share,
        'ratio_weight': weight,
        'block_threshold': probability,
    }

    def __init__(
        self,
        prune_layers: Sequence[int] = (6, 12, 18),
        token_keep_ratio: float = 0.7,
        block_keep_ratio: float = 0.8,
        ratio_weight: float = 10.0,
    ) -> None:
        self.prune_layers = prune_layers
        self.token_keep_ratio = token_keep_ratio
        self.block_keep_ratio = block_keep_ratio
        self.ratio_weight = ratio_weight
        # Probability above which evaluation runs a direction.
        self.block_threshold = 0.5
        # Taken instead of the model's own; see forced_decisions.
        self.forced = ForcedDecisions()

    def install(self, backbone: TokenBackbone) -> None:
        """Add predictors and heads, under the released names."""
        if backbone.blocks != 'mamba':
            raise ValueError(
                'DyVM skips scan directions, and '
                f'{type(backbone).__name__} has blocks of {backbone.blocks}: '
                'use it with VisionMamba, VideoMamba or MambaReg'
            )
        layers = self.stage_layers(backbone)
        if layers != self.prune_layers:
            print_log(
                f'DyVM prunes before {layers} alone: of prune_layers '
                f'{self.prune_layers} the others are beyond the '
                f'{backbone.num_layers} blocks',
                logger='current',
                level=logging.WARNING,
            )
        dims = backbone.embed_dims
        backbone.score_predictors = ModuleList(
            ScorePredictor(dims) for _ in layers
        )
        for block in backbone.layers:
            mixer: BidirectionalMamba = block.mixer
            mixer.block_head = BlockHead(2 * mixer.d_inner)

    def stage_layers(self, backbone: TokenBackbone) -> tuple[int, ...]:
        """Blocks of this backbone before which patches go."""
        return tuple(i for i in self.prune_layers if i < backbone.num_layers)

    def start(self, backbone: TokenBackbone, sequence: TokenSequence) -> Steps:
        """Accompany one pass.

        Raises:
            RuntimeError: In training, if nobody observes the backbone, so
                that the ratio losses would be lost.
            ValueError: If forced decisions do not fit, no token is left, or
                there are more stages than predictors.
        """
        self._check_stages(backbone)
        if not backbone.training:
            self._refuse_empty(backbone, sequence)
            return PruningSteps(self, backbone, sequence)
        if not is_observed(backbone):
            raise RuntimeError(
                'nobody observes this training forward, so the ratio losses '
                'of DyVM would be lost: add '
                "dict(type='mmscope.TokenReductionHook') to custom_hooks, "
                'train with mmscope.DistilledClassifier, or add '
                'reduction.losses(record) of `with observe(model) as records` '
                'yourself'
            )
        return MaskingSteps(self, backbone, sequence)

    def _check_stages(self, backbone: TokenBackbone) -> None:
        built = len(backbone.score_predictors)
        layers = self.stage_layers(backbone)
        if len(layers) > built:
            raise ValueError(
                f'this backbone was built with {built} predictors, one a '
                f'stage, and cannot prune before the blocks {layers}: build '
                'it with these prune_layers'
            )

    def _refuse_empty(
        self, backbone: TokenBackbone, sequence: TokenSequence
    ) -> None:
        patches = sequence.grid[0] * sequence.grid[1]
        if not self.lengths(backbone, patches)[-1]:
            raise ValueError(
                f'token_keep_ratio={self.token_keep_ratio} leaves none of '
                f'{patches} patches, and there is no summary token: raise it '
                'or use larger images'
            )

    def count(self, s: int, patches: int) -> int:
        """Patches that stage ``s`` keeps of all of the image."""
        return int(self.token_keep_ratio ** (s + 1) * patches)

    def exponential(
        self,
        kind: str,
        index: int,
        shape: tuple[int, ...],
        device: torch.device,
    ) -> Tensor:
        """Draw all of DyVM's noise, from Exponential(1).

        Args:
            kind (str): 'token' for a stage, 'block' for a layer.
            index (int): Which one.
            shape (tuple[int, ...]): (B, M, 2), patches in the order in which
                the stage sees them; or (2, B, 2).
            device (torch.device): Of the result.

        Returns:
            Tensor: float32.
        """
        return torch.empty(shape, device=device).exponential_()

    def losses(self, record: Record) -> dict[str, Tensor]:
        """Pull the shares of patches and directions towards the targets.

        Returns:
            dict[str, Tensor]: ``loss_token_ratio``, the mean over stages and
            images of (share kept - r ** (s + 1)) ** 2, and
            ``loss_block_ratio``, (mean of all decisions - R) ** 2; weighted.
            Of no image both are 0.
        """
        made = cast(DyVMRecord, record)
        kept = [decision.mean(1) for decision in made.decisions]
        errors = [
            _mean((share - self.token_keep_ratio ** (s + 1)).square())
            for s, share in enumerate(kept)
        ]
        ran = made.block_decisions.float()
        aim = self.block_keep_ratio if ran.numel() else 0.0
        blocks = _mean(ran) - aim
        losses = {'loss_block_ratio': self.ratio_weight * blocks.square()}
        if errors:
            tokens = torch.stack(errors).mean()
            losses['loss_token_ratio'] = self.ratio_weight * tokens
        return losses

    def lengths(self, backbone: TokenBackbone, patches: int) -> list[int]:
        """Tell the length of the sequence in each block, for costs."""
        layers = self.stage_layers(backbone)
        found, length = [], patches
        for i in range(backbone.num_layers):
            if i in layers:
                length = self.count(layers.index(i), patches)
            found.append(length + backbone.summary_tokens.count)
        return found

    @property
    def block_cut(self) -> float:
        """Logit above which a direction runs: 0 at a threshold of 0.5."""
        return math.log(self.block_threshold / (1 - self.block_threshold))

    def direction_share(self) -> float:
        """Share of the directions that run, as training aims at."""
        return self.block_keep_ratio

    def skipping_nothing(
        self, backbone: TokenBackbone
    ) -> AbstractContextManager[None]:
        """Force all directions of one image."""
        blocks = torch.ones(backbone.num_layers, 1, 2, dtype=torch.bool)
        return forced_decisions(backbone, blocks=blocks)

    def module_macs(self, backbone: TokenBackbone, patches: int) -> int:
        """Count the predictors; block heads are left out, as by DyVM."""
        seen, total = patches, 0
        for s, _ in enumerate(self.stage_layers(backbone)):
            total += ScorePredictor.macs(backbone.embed_dims, seen)
            seen = self.count(s, patches)
        return total


def _mean(values: Tensor) -> Tensor:
    """Average, 0 of nothing."""
    return values.mean() if values.numel() else values.sum()
