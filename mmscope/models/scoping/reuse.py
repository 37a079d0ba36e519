"""How coarse features enter the fine stage."""

from __future__ import annotations

from torch import nn

FEATURE_REUSES = ('mlp', 'linear', 'mlp_with_cls', 'none')


def make_reuse(kind: str, embed_dims: int) -> nn.Module | None:
    """Make the module of Eq. 18, which maps coarse output tokens.

    Args:
        kind (str): 'mlp' or 'mlp_with_cls' (D -> 4D -> D, GELU), 'linear'
            (D -> D) or 'none'.
        embed_dims (int): Token channels D.

    Returns:
        nn.Module | None: None for 'none'.
    """
    dims = embed_dims
    if kind == 'none':
        return None
    if kind == 'linear':
        reuse: nn.Module = nn.Linear(dims, dims)
    else:
        reuse = nn.Sequential(
            nn.Linear(dims, 4 * dims), nn.GELU(), nn.Linear(4 * dims, dims)
        )
    for module in reuse.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return reuse
