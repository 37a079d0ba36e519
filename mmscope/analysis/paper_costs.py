"""What the paper's models cost, from the models and without any data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from mmscope.analysis.costs import StageCosts, first_grid, stage_costs
from mmscope.analysis.detectors import Regions, count_behind, find_regions
from mmscope.analysis.model_costs import add_heads, closed_form
from mmscope.models import MambaScope, TokenBackbone, VisionMamba

CLASSES = 1000
SIDE = 224
ARCHS = {'ti': 'tiny', 's': 'small', 'b': 'base'}
KINDS = {'vim': VisionMamba, 'mambascope': MambaScope}
NAME = re.compile(r'(?P<kind>\w+?)_(?P<arch>ti|s|b)(_\w+)?$')
WITHOUT_CLS = {'summary_position': 'none', 'out_type': 'featmap'}
# Token reductions of ViM, as the configs of these names set them.
REDUCTIONS = {
    'ha_ti': {
        'type': 'mmscope.HiddenAlign',
        'prune_layers': (10, 20),
        'keep_ratio': 0.85,
    },
    'ha_s': {'type': 'mmscope.HiddenAlign'},
    'r_meeto_ti': {'type': 'mmscope.RMeeTo', 'merge_tokens': 5},
    'r_meeto_s': {'type': 'mmscope.RMeeTo'},
    'r_meeto_b': {'type': 'mmscope.RMeeTo'},
    'dyvm_ti': {'type': 'mmscope.DyVM', 'token_keep_ratio': 0.9},
    'dyvm_s': {'type': 'mmscope.DyVM'},
    'dyvm_b': {'type': 'mmscope.DyVM', 'block_keep_ratio': 0.7},
    'dyvm_ti_upernet': {'type': 'mmscope.DyVM', 'token_keep_ratio': 0.9},
    'dyvm_s_upernet': {'type': 'mmscope.DyVM', 'token_keep_ratio': 0.8},
}
# A printed cost has one decimal.
HALF_DIGIT = 0.05


@dataclass(frozen=True)
class ModelCosts:
    """One model, costed.

    Args:
        params (int): Parameters.
        paper (StageCosts): MACs, one scan direction.
        exact (StageCosts): MACs, both directions.
    """

    params: int
    paper: StageCosts
    exact: StageCosts

    def implied_exit(self, gflops: float) -> tuple[float, float]:
        """Derive r of mean = coarse + (1 - r) * (fine + reuse), in GMACs.

        Beside it comes what half a printed digit is of it.
        """
        extra = (self.paper.fine + self.paper.reuse) / 1e9
        ratio = 1 - (gflops - self.paper.coarse / 1e9) / extra
        return ratio, HALF_DIGIT / extra


def names_vim(key: str) -> bool:
    """Tell whether a config's backbone is ViM, a reduced one or its scope."""
    name = NAME.match(key)
    return name is not None and (name['kind'] in KINDS or key in REDUCTIONS)


def backbone_of(key: str, **options: Any) -> TokenBackbone:
    """Build the backbone of a run without memory for its weights.

    Raises:
        ValueError: If the key does not name kind and size.
    """
    name = NAME.match(key)
    if name is None:
        raise ValueError(
            f'{key!r} names no kind and size, as mambascope_s does'
        )
    kind = KINDS.get(name['kind'], VisionMamba)
    if key in REDUCTIONS:
        options = {'reduction': REDUCTIONS[key], **options}
        if key.endswith('_upernet'):
            options |= WITHOUT_CLS
    with torch.device('meta'):
        return kind(arch=ARCHS[name['arch']], **options)


@cache
def classifier(key: str, refine_ratio: float | None = None) -> ModelCosts:
    """Cost an ImageNet classifier at 224 x 224; its head is in each stage."""
    backbone = backbone_of(key)
    head = nn.Linear(backbone.summary_dims, CLASSES, device='meta')

    def costs(convention: str) -> StageCosts:
        grid = first_grid(backbone, (SIDE, SIDE))
        alone = stage_costs(backbone, grid, convention, refine_ratio)
        return add_heads(alone, backbone, head.weight.numel())

    return ModelCosts(
        _params(backbone) + _params(head), costs('paper'), costs('exact')
    )


@dataclass(frozen=True)
class DetectorCosts:
    """One detector, costed at the image size that it is made for.

    Args:
        params (int): Parameters.
        side (int): Side of the square image in pixels.
        regions (Regions | None): What reaches its heads at most.
        channels (int): Of the maps that its heads see.
        paper (StageCosts): MACs, one scan direction.
        exact (StageCosts): MACs, both directions.
    """

    params: int
    side: int
    regions: Regions | None
    channels: int
    paper: StageCosts
    exact: StageCosts


def detector(model: nn.Module) -> DetectorCosts:
    """Cost a two-stage detector on ``meta``.

    The backbone by its closed form, everything behind it counted as it runs.
    """
    host: Any = model
    shape = host.backbone.img_size
    regions = find_regions(model)
    outside = count_behind(model, shape, regions)
    return DetectorCosts(
        _params(model),
        shape[0],
        regions,
        host.rpn_head.in_channels,
        *(
            closed_form(model, shape, outside, name)
            for name in ('paper', 'exact')
        ),
    )


def break_even(vim: StageCosts, scope: StageCosts) -> float:
    """Find r of coarse + (1 - r) * (fine + reuse) = vim, in scope's costs."""
    return (scope.full - vim.full) / (scope.fine + scope.reuse)


def _params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
