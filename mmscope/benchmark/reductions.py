"""Token reductions at the settings of their papers, for timing only."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from mmscope.benchmark.models import BenchmarkModel, build_vim
from mmscope.evaluation.interleaved_timing import Run
from mmscope.models import TokenBackbone
from mmscope.models.reduction import DyVM, forced_decisions

R_MEETO, HIDDEN_ALIGN, DYVM = REDUCTIONS = 'R-MeeTo', 'HiddenAlign', 'DyVM'
_merge = partial(dict, type='mmscope.RMeeTo')
_align = partial(dict, type='mmscope.HiddenAlign')
_skip = partial(dict, type='mmscope.DyVM', block_keep_ratio=0.8)
# Those of configs/imagenet.
SETTINGS = {
    'tiny': {
        R_MEETO: _merge(merge_tokens=5),
        HIDDEN_ALIGN: _align(prune_layers=(10, 20), keep_ratio=0.85),
        DYVM: _skip(token_keep_ratio=0.9),
    },
    'small': {
        R_MEETO: _merge(merge_tokens=11),
        HIDDEN_ALIGN: _align(prune_layers=(5, 10, 15), keep_ratio=0.8),
        DYVM: _skip(token_keep_ratio=0.7),
    },
    'base': {
        R_MEETO: _merge(merge_tokens=11),
        DYVM: _skip(token_keep_ratio=0.7, block_keep_ratio=0.7),
    },
}


def unpublished(
    arch: str | dict, settings: Mapping[str, dict] | None
) -> dict[str, str]:
    """Say who is missing in an architecture's settings, if any were wanted."""
    reason = f'no setting was published for ViM {arch}'
    known = REDUCTIONS if settings is None else settings
    return {name: reason for name in REDUCTIONS if name not in known}


def build_reduced(
    arch: str | dict,
    resolution: int,
    reduction: dict,
    neck: str = 'none',
    backend: str = 'auto',
) -> BenchmarkModel:
    """Build ViM with a token reduction, random weights.

    The share of directions that a DyVM runs is rounded to a whole number of
    them, so that its MACs are those of what :func:`reduced_run` runs.
    """
    model = build_vim(arch, resolution, neck, backend, reduction)
    found, number = model.backbone.reduction, 2 * model.backbone.num_layers
    if isinstance(found, DyVM):
        found.block_keep_ratio = (
            round(number * found.block_keep_ratio) / number
        )
    return model


def reduced_run(model: BenchmarkModel, batch: int, forward: Run) -> Run:
    """Force the decisions on a run that need trained weights.

    Which patches are merged or pruned costs the same with any weights, how
    many directions a DyVM runs does not: its share is forced. The heads that
    would decide about them are left out, from the time as from the MACs.
    """
    backbone = model.backbone
    if not isinstance(backbone.reduction, DyVM):
        return forward
    blocks = draw_block_policy(backbone, batch)

    def run() -> None:
        with forced_decisions(model, blocks=blocks):
            forward()

    return run


def draw_block_policy(backbone: TokenBackbone, batch: int) -> Tensor:
    """Draw which scan directions of a DyVM run: (layers, B, 2) bool.

    The same each time; every image runs the same number of directions, in
    blocks of its own.
    """
    number = 2 * backbone.num_layers
    running = round(number * backbone.reduction.direction_share())
    generator = torch.Generator().manual_seed(0)
    order = torch.rand(batch, number, generator=generator).argsort(1)
    # (B, layers * 2) -> (layers, B, 2)
    runs = (order < running).unflatten(1, (backbone.num_layers, 2))
    device = next(backbone.parameters()).device
    return runs.transpose(0, 1).to(device)
