"""The one loop over the blocks of token backbones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmscope.models.layers import (
    NO_STEPS,
    DropPath,
    Mixed,
    MixerPlan,
    Record,
    Steps,
    TokenSequence,
    add_and_norm,
    add_residual,
)


@dataclass
class Encoded:
    """What the blocks make of one sequence.

    Attributes:
        tokens (Tensor): After the final norm, (B, L, D).
        levels (list[Tensor]): One (B, n, D) in raster order for each out
            index, for 'featmap' alone.
        sequence (TokenSequence): As the last block left it.
        record (Record): What ran.
    """

    tokens: Tensor
    levels: list[Tensor]
    sequence: TokenSequence
    record: Record


class BlockLoop(BaseModule):
    """What a backbone does between embedding images and giving features.

    A subclass sets the attributes below.
    """

    layers: ModuleList
    norm_f: nn.Module
    drop_path: DropPath
    # The first blocks run, so many.
    num_run: int
    out_type: str
    out_indices: tuple[int, ...]
    feature_source: str
    last_norm: bool
    residual_in_fp32: bool
    with_cp: bool

    def encode(
        self, sequence: TokenSequence, steps: Steps = NO_STEPS
    ) -> Encoded:
        """Run all blocks and the final norm; the steps happen in between."""
        record = steps.new_record()
        levels: list[TokenSequence] = []
        for i, block in zip(range(self.num_run), self.layers, strict=False):
            sequence = steps.before_block(i, sequence)
            plan = steps.plan(i, sequence)
            tokens, residual, mixed = self._run(block, sequence, plan)
            sequence = sequence.with_tokens(tokens, residual)
            steps.after_block(i, sequence, mixed)
            record.lengths.append(sequence.length)
            record.directions.append(mixed.directions)
            if self.out_type == 'featmap' and i in self.out_indices:
                level = self.level(tokens, residual)
                is_last = i == self.num_layers - 1
                if self.feature_source != 'mixer' and not is_last:
                    level = steps.shown(level)
                levels.append(replace(sequence, tokens=level, residual=None))
        tokens, _ = add_and_norm(
            self.norm_f,
            self.drop_path(sequence.tokens),
            sequence.residual,
            self.residual_in_fp32,
        )
        steps.finish(sequence, tokens, record)
        maps = self._rasters(levels)
        if tokens.dtype.itemsize < 4:
            # Weights of 16 bits: necks and heads have them, too.
            maps = [level.to(tokens.dtype) for level in maps]
        return Encoded(tokens, maps, sequence, record)

    def _run(
        self, block: nn.Module, sequence: TokenSequence, plan: MixerPlan
    ) -> tuple[Tensor, Tensor, Mixed]:
        inputs = sequence.tokens, sequence.residual, plan
        if self.with_cp and self.training and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

    def level(self, tokens: Tensor, residual: Tensor) -> Tensor:
        """What maps show of tokens: see ``feature_source``; (B, L, D)."""
        if self.feature_source == 'mixer':
            return tokens
        return add_residual(tokens, residual)

    def _rasters(self, levels: Sequence[TokenSequence]) -> list[Tensor]:
        # After the last block: gradients of norm_f add up in this order.
        found = [level.to_raster(level.tokens) for level in levels[:-1]]
        for level in levels[-1:]:
            norm = self.norm_f if self.last_norm else None
            found.append(level.to_raster(level.tokens, norm))
        return found
