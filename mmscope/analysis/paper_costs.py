"""What the paper's models cost, from the models and without any data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from mmscope.analysis.costs import StageCosts, first_grid, stage_costs
from mmscope.analysis.model_costs import add_heads
from mmscope.models import MambaScope, TokenBackbone, VisionMamba

CLASSES = 1000
SIDE = 224
ARCHS = {'ti': 'tiny', 's': 'small', 'b': 'base'}
KINDS = {'vim': VisionMamba, 'mambascope': MambaScope}
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
        """Derive the exit ratio that a printed mean cost stands for.

        Args:
            gflops (float): mean = coarse + (1 - r) * (fine + reuse).

        Returns:
            tuple[float, float]: r, and what half a printed digit is of it.
        """
        extra = (self.paper.fine + self.paper.reuse) / 1e9
        ratio = 1 - (gflops - self.paper.coarse / 1e9) / extra
        return ratio, HALF_DIGIT / extra


def backbone_of(key: str, **options: object) -> TokenBackbone:
    """Build the backbone of a run without memory for its weights.

    Args:
        key (str): Stem of a config, such as 'mambascope_s'.
        **options (object): Of the backbone.

    Returns:
        TokenBackbone: On the ``meta`` device.
    """
    kind, arch = key.split('_')[:2]
    with torch.device('meta'):
        return KINDS[kind](arch=ARCHS[arch], **options)


@cache
def classifier(key: str, refine_ratio: float | None = None) -> ModelCosts:
    """Cost an ImageNet classifier at 224 x 224.

    Args:
        key (str): Stem of its config.
        refine_ratio (float | None): α; None for the default. Defaults to
            None.

    Returns:
        ModelCosts: Its head is part of each stage.
    """
    backbone = backbone_of(key)
    head = nn.Linear(backbone.summary_dims, CLASSES, device='meta')

    def costs(convention: str) -> StageCosts:
        grid = first_grid(backbone, (SIDE, SIDE))
        alone = stage_costs(backbone, grid, convention, refine_ratio)
        return add_heads(alone, backbone, head.weight.numel())

    return ModelCosts(
        _params(backbone) + _params(head), costs('paper'), costs('exact')
    )


def _params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
