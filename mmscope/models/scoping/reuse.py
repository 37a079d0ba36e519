"""How coarse features enter the fine stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from mmscope.models.backbones.arguments import check_choice

if TYPE_CHECKING:
    from mmscope.models.scoping.coarse_to_fine import CoarseToFine

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


def check_reuse(backbone: CoarseToFine, kind: str) -> str:
    """Return a kind of reuse that a backbone can do with what it has.

    Args:
        backbone (CoarseToFine): It asks.
        kind (str): One of ``FEATURE_REUSES``.

    Returns:
        str: The kind.

    Raises:
        ValueError: If the kind is unknown, 'mlp_with_cls' meets several
            summary tokens, or the module of another kind was made.
    """
    check_choice('feature_reuse', kind, FEATURE_REUSES)
    count = backbone.summary_tokens.count
    if kind == 'mlp_with_cls' and count != 1:
        raise ValueError(
            "feature_reuse='mlp_with_cls' reuses one cls token, this "
            f"backbone has {count} summary tokens: use 'mlp'"
        )
    own = vars(backbone).get('feature_reuse')
    if own is None or kind in (own, 'none'):
        return kind
    made = getattr(backbone, 'reuse', None)
    if made is None or (kind == 'linear') == isinstance(made, nn.Sequential):
        raise ValueError(
            f'feature_reuse={kind!r} needs a module that this backbone, with '
            f'feature_reuse={own!r}, was not built with: build another one'
        )
    return kind
