"""What coarse-to-fine scoping asks of the family that it scopes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmscope.models.backbones.arguments import check_choice
from mmscope.models.layers import SummaryTokens
from mmscope.models.scoping.layout import CLS_POSITIONS

if TYPE_CHECKING:
    from mmscope.models.backbones import TokenBackbone
    from mmscope.models.scoping.coarse_to_fine import CoarseToFine
    from mmscope.models.scoping.two_stage import TwoStage

    class ScopedFamily(TwoStage, TokenBackbone):
        """What a mixin of a scope may rely on, for type checkers alone."""

else:
    ScopedFamily = object


def fine_summary(
    backbone: CoarseToFine, cls_position: str | None
) -> SummaryTokens:
    """Choose where summary tokens stand among the fine tokens.

    Args:
        backbone (CoarseToFine): It asks.
        cls_position (str | None): One of ``CLS_POSITIONS``; None for the
            family's own places.

    Returns:
        SummaryTokens: Their places.

    Raises:
        ValueError: If the position is unknown, or there is not one token.
    """
    own = backbone.summary_tokens
    if cls_position is None:
        return own
    check_choice('cls_position', cls_position, tuple(CLS_POSITIONS))
    if own.count != 1:
        raise ValueError(
            f'cls_position={cls_position!r} places one cls token, this '
            f'backbone has {own.count} summary tokens: leave it out'
        )
    return SummaryTokens(CLS_POSITIONS[cls_position], 1)


def check_family(backbone: CoarseToFine) -> None:
    """Refuse what cannot be scoped.

    Raises:
        ValueError: If there is no summary token to judge by, patches overlap,
            or a token reduction is at work.
    """
    count = backbone.summary_tokens.count
    if backbone.out_type in ('avg_featmap', 'raw'):
        raise ValueError(
            f'out_type={backbone.out_type!r} is for one stage: a scope gives '
            'cls_token or featmap'
        )
    if not count:
        raise ValueError(
            'scoping judges the coarse stage by its summary tokens, this '
            "backbone has none: summary_position='none' is for one stage"
        )
    if backbone.patch_stride != backbone.patch_size:
        raise ValueError(
            'scoping replaces whole regions by their patches, so patches '
            f'must not overlap: got patch_stride={backbone.patch_stride} for '
            f'patch_size={backbone.patch_size}'
        )
    if backbone.rope:
        raise ValueError(
            'rope=True turns tokens by the cells of one grid, and a scope '
            'mixes tokens of two: use the plain backbone'
        )
    if backbone.reduction is not None:
        raise ValueError(
            'scoping and a token reduction both decide which tokens '
            f'there are, got reduction={type(backbone.reduction).__name__}: '
            'use one of them'
        )
