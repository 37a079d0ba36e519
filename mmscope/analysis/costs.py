"""Multiply-accumulates of token backbones in closed form.

One MAC is one multiply-add of a convolution or a linear layer. The selective
scan is the exception: its term ``9 * L * d_inner * N + 2 * L * d_inner``
already counts operations, so FLOPs are twice the MACs without the scan, plus
the scan.

Conventions:
    paper: One direction of the bidirectional mixer. It gives the numbers of
        the published tables (ViM-T / S / B: 1.449 / 5.076 / 18.867 G).
    exact: Both directions: each has its own convolution, ``x_proj``,
        ``dt_proj`` and scan.

Not counted, in either: norms, activations, gates, position embeddings,
interpolation and the token scores that mixers give. What 'detail' measures
is counted, a MAC for each value of the image (three a pixel).

Shape letters: L tokens, D channels, N = d_state, R = dt_rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mmscope.models import TokenBackbone, TwoStage, is_two_stage
from mmscope.models.heads.confidence import MAP
from mmscope.models.layers import block_macs, scan_cost

__all__ = [
    'StageCosts',
    'block_macs',
    'direction_count',
    'exit_head_macs',
    'first_grid',
    'mean_cost',
    'reuse_macs',
    'scan_cost',
    'stage_costs',
]

DIRECTIONS = {'paper': 1, 'exact': 2}
# MACs a token of each kind of feature reuse, in units of D * D.
REUSE_SQUARES = {'mlp': 8, 'linear': 1, 'mlp_with_cls': 8, 'none': 0}


@dataclass(frozen=True)
class StageCosts:
    """MACs of one image, by the part of the model that spends them.

    Args:
        coarse (int): Coarse pass, exit head included; 0 with one stage.
        fine (int): Fine pass, paid by images that go on; everything with
            one stage.
        reuse (int): Feature reuse, paid by images that go on.
        shared (int): Neck and heads, paid once by each image. Defaults to 0.
        extra (int): What a token reduction's deciding costs and no
            convention counts (matching, alignment); in no sum. Defaults to
            0.
    """

    coarse: int
    fine: int
    reuse: int
    shared: int = 0
    extra: int = 0

    @property
    def exited(self) -> int:
        """Cost of an image that leaves after the coarse pass."""
        return self.coarse + self.shared

    @property
    def full(self) -> int:
        """Cost of an image that runs both passes."""
        return self.coarse + self.fine + self.reuse + self.shared


def direction_count(convention: str) -> int:
    """Look up how many scan directions a convention counts.

    Raises:
        ValueError: If the convention is unknown.
    """
    if convention not in DIRECTIONS:
        raise ValueError(
            f'convention {convention!r} is unknown; choose one of '
            f'{sorted(DIRECTIONS)}'
        )
    return DIRECTIONS[convention]


def first_grid(
    backbone: TokenBackbone, shape: Sequence[int]
) -> tuple[int, int]:
    """Find (rows, columns) of an image that :func:`stage_costs` asks for."""
    rows, columns = backbone.grid_of(shape)
    unit = backbone.grid_multiple
    return rows // unit, columns // unit


def reuse_macs(kind: str, regions: int, embed_dims: int) -> int:
    """Count the MACs of the feature reuse.

    Args:
        kind (str): 'mlp' (D -> 4D -> D), 'linear' (D -> D),
            'mlp_with_cls' (the cls token too) or 'none'.
        regions (int): Coarse regions h * w; all of them are reused.
        embed_dims (int): Token channels D.

    Returns:
        int: MACs.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind not in REUSE_SQUARES:
        raise ValueError(
            f'feature reuse {kind!r} has no cost formula; known are '
            f'{sorted(REUSE_SQUARES)}'
        )
    tokens = regions + 1 if kind == 'mlp_with_cls' else regions
    return tokens * REUSE_SQUARES[kind] * embed_dims**2


def stage_costs(
    backbone: TokenBackbone,
    grid: tuple[int, int],
    convention: str = 'paper',
    refine_ratio: float | None = None,
) -> StageCosts:
    """Compute what one image costs in each stage of a backbone.

    Args:
        backbone (TokenBackbone): Any mmscope backbone.
        grid (tuple[int, int]): Coarse grid (h, w) of a two-stage backbone,
            patch grid of another, see :func:`first_grid`.
        convention (str): 'paper' (one direction) or 'exact' (both).
            Defaults to 'paper'.
        refine_ratio (float | None): Fraction of the regions refined. None
            takes the backbone's own, which is 1 while its selection is off.
            Defaults to None.

    Returns:
        StageCosts: MACs; ``shared`` is 0, see
        :class:`mmscope.analysis.SharedCostCounter`.

    Raises:
        ValueError: If the convention or the kind of reuse is unknown.
    """
    directions = direction_count(convention)
    regions = int(grid[0]) * int(grid[1])
    if not is_two_stage(backbone):
        return _one_stage(backbone, regions, directions)
    return _two_stages(backbone, regions, directions, refine_ratio)


def _two_stages(
    scope: Any, regions: int, directions: int, refine_ratio: float | None
) -> StageCosts:
    # Any: a scope is two classes at once, a mixin and its family.
    coarse, fine = (
        scope.num_layers * scope.layer_macs(tokens, directions)
        + scope.read_out_macs()
        for tokens in scope.token_counts(regions, refine_ratio)
    )
    coarse += scope.embed_macs(regions) + scope.detail_macs(regions)
    return StageCosts(
        coarse=coarse + exit_head_macs(scope, regions),
        fine=fine + scope.embed_macs(4 * regions),
        reuse=reuse_macs(scope.feature_reuse, regions, scope.embed_dims),
    )


def _one_stage(
    backbone: TokenBackbone, patches: int, directions: int
) -> StageCosts:
    ends = backbone.embed_macs(patches) + backbone.read_out_macs()
    reduction = backbone.reduction
    if reduction is None:
        length = patches + backbone.summary_tokens.count
        block = backbone.layer_macs(length, directions)
        return StageCosts(0, ends + backbone.num_run * block, 0)
    return StageCosts(
        coarse=0,
        fine=ends + reduction.macs(backbone, patches, directions),
        reuse=0,
        extra=reduction.extra_macs(backbone, patches, directions),
    )


def mean_cost(costs: StageCosts, exit_ratio: float) -> float:
    """Average: coarse + (1 - exit_ratio) * (fine + reuse) + shared.

    Raises ValueError if the ratio is outside [0, 1].
    """
    if not 0 <= exit_ratio <= 1:
        raise ValueError(
            f'exit_ratio is a fraction in [0, 1], got {exit_ratio!r}'
        )
    goes_on = (1 - exit_ratio) * (costs.fine + costs.reuse)
    return costs.coarse + goes_on + costs.shared


def exit_head_macs(backbone: TwoStage, regions: int) -> int:
    """Count the MACs of what a gate runs of its exit head, for one image."""
    head = backbone.exit_head
    if head is None:
        return 0
    over_cells: Any = getattr(head, 'fc_map', None)
    # The gate runs the part that it decides by.
    if getattr(backbone.gate, 'kind', None) == MAP:
        return regions * over_cells.weight.numel()
    # This part sees one token, the coarse cls: a MAC a weight.
    return sum(
        layer.weight.numel()
        for layer in head.modules()
        if isinstance(layer, nn.Linear) and layer is not over_cells
    )
