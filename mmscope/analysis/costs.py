"""Multiply-accumulates of ViM and MambaScope in closed form.

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
interpolation and the token scores.

Shape letters: L tokens, D channels, N = d_state, R = dt_rank.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mmscope.analysis.counter import SharedCostCounter
from mmscope.models.scoping.selection import num_refined

__all__ = [
    'SharedCostCounter',
    'StageCosts',
    'block_macs',
    'direction_count',
    'fine_length',
    'is_two_stage',
    'mean_cost',
    'patch_embed_macs',
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
        coarse (int): Coarse pass, exit head included. ViM: 0.
        fine (int): Fine pass, paid by images that go on. ViM: everything.
        reuse (int): Feature reuse, paid by images that go on.
        shared (int): Neck and heads, paid once by each image. Defaults to 0.
    """

    coarse: int
    fine: int
    reuse: int
    shared: int = 0

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

    Args:
        convention (str): 'paper' or 'exact'.

    Returns:
        int: 1 or 2.

    Raises:
        ValueError: If the convention is unknown.
    """
    if convention not in DIRECTIONS:
        raise ValueError(
            f'convention {convention!r} is unknown; choose one of '
            f'{sorted(DIRECTIONS)}'
        )
    return DIRECTIONS[convention]


def scan_cost(
    tokens: int, d_inner: int, d_state: int, directions: int = 1
) -> int:
    """Count the operations of the selective scan of one block.

    Args:
        tokens (int): Sequence length L.
        d_inner (int): Scanned channels.
        d_state (int): States N a channel.
        directions (int): Scans of the sequence. Defaults to 1.

    Returns:
        int: 9 * L * d_inner * N + 2 * L * d_inner for each direction.
    """
    one = 9 * tokens * d_inner * d_state + 2 * tokens * d_inner
    return directions * one


def block_macs(
    tokens: int,
    embed_dims: int,
    d_inner: int,
    d_state: int,
    dt_rank: int,
    d_conv: int,
    directions: int = 1,
) -> int:
    """Count the MACs of one bidirectional Mamba block.

    Args:
        tokens (int): Sequence length L.
        embed_dims (int): Token channels D.
        d_inner (int): Channels inside the mixer.
        d_state (int): States N a channel.
        dt_rank (int): Rank R of the step-size projection.
        d_conv (int): Width of the depthwise convolution.
        directions (int): Directions counted; the input and the output
            projection are shared by both. Defaults to 1.

    Returns:
        int: MACs, the scan's operations included.
    """
    projections = 2 * embed_dims * d_inner + d_inner * embed_dims
    selection = d_inner * (dt_rank + 2 * d_state) + dt_rank * d_inner
    per_direction = d_conv * d_inner + selection
    linear = tokens * (projections + directions * per_direction)
    return linear + scan_cost(tokens, d_inner, d_state, directions)


def patch_embed_macs(
    patches: int, embed_dims: int, patch_size: int, in_channels: int
) -> int:
    """Count the MACs of the patch convolution.

    Args:
        patches (int): Patches embedded.
        embed_dims (int): Token channels D.
        patch_size (int): Patch side in pixels.
        in_channels (int): Image channels.

    Returns:
        int: MACs.
    """
    return patches * in_channels * patch_size**2 * embed_dims


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


def fine_length(regions: int, refined: int) -> int:
    """Count the tokens of the fine sequence (Alg. 2 of MambaScope).

    Args:
        regions (int): Coarse regions h * w.
        refined (int): Regions k that are replaced by four fine tokens.

    Returns:
        int: 4k fine tokens, h * w - k coarse ones and cls.
    """
    return 4 * refined + regions - refined + 1


def stage_costs(
    backbone: nn.Module,
    grid: tuple[int, int],
    convention: str = 'paper',
    refine_ratio: float | None = None,
) -> StageCosts:
    """Compute what one image costs in each stage of a backbone.

    Args:
        backbone (nn.Module): ``VisionMamba`` or ``MambaScope``.
        grid (tuple[int, int]): Coarse grid (h, w) of ``MambaScope``; patch
            grid of ``VisionMamba``, which has no other.
        convention (str): 'paper' (one direction) or 'exact' (both).
            Defaults to 'paper'.
        refine_ratio (float | None): Fraction of the regions refined. None
            takes the backbone's own, which is 1 while its selection is off.
            Defaults to None.

    Returns:
        StageCosts: MACs; ``shared`` is 0, see :class:`SharedCostCounter`.

    Raises:
        ValueError: If the convention or the kind of reuse is unknown.
    """
    directions = direction_count(convention)
    regions = int(grid[0]) * int(grid[1])

    def encode(tokens: int, patches: int) -> int:
        block = block_macs(
            tokens,
            backbone.embed_dims,
            backbone.d_inner,
            backbone.d_state,
            backbone.dt_rank,
            backbone.d_conv,
            directions,
        )
        embed = patch_embed_macs(
            patches,
            backbone.embed_dims,
            backbone.patch_size,
            backbone.in_channels,
        )
        return embed + backbone.num_layers * block

    if not is_two_stage(backbone):
        return StageCosts(0, encode(regions + 1, regions), 0)
    if refine_ratio is None:
        refine_ratio = backbone.refine_ratio if backbone.selection else 1.0
    length = fine_length(regions, num_refined(refine_ratio, regions))
    return StageCosts(
        coarse=encode(regions + 1, regions) + _exit_head_macs(backbone),
        fine=encode(length, 4 * regions),
        reuse=reuse_macs(backbone.feature_reuse, regions, backbone.embed_dims),
    )


def mean_cost(costs: StageCosts, exit_ratio: float) -> float:
    """Average the cost over images of which some exit early.

    Args:
        costs (StageCosts): Cost of each stage.
        exit_ratio (float): Fraction of the images that exit, in [0, 1].

    Returns:
        float: coarse + (1 - exit_ratio) * (fine + reuse) + shared.

    Raises:
        ValueError: If the ratio is outside [0, 1].
    """
    if not 0 <= exit_ratio <= 1:
        raise ValueError(
            f'exit_ratio is a fraction in [0, 1], got {exit_ratio!r}'
        )
    goes_on = (1 - exit_ratio) * (costs.fine + costs.reuse)
    return costs.coarse + goes_on + costs.shared


def is_two_stage(backbone: nn.Module) -> bool:
    """Tell MambaScope (coarse and fine) from a single-stage backbone.

    Args:
        backbone (nn.Module): Any mmscope backbone.

    Returns:
        bool: True if the backbone refines a fraction of its regions.
    """
    return hasattr(backbone, 'refine_ratio')


def _exit_head_macs(backbone: nn.Module) -> int:
    # The exit head sees one token, the coarse cls: a MAC a weight.
    head = getattr(backbone, 'exit_head', None)
    layers = () if head is None else head.modules()
    return sum(m.weight.numel() for m in layers if isinstance(m, nn.Linear))
