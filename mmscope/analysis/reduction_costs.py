"""What images cost whose tokens and directions were reduced."""

from __future__ import annotations

from torch import Tensor

from mmscope.analysis.costs import direction_count
from mmscope.models import TokenBackbone
from mmscope.models.layers import Record


def measured_macs(
    backbone: TokenBackbone,
    record: Record,
    directions: Tensor,
    convention: str = 'exact',
) -> Tensor:
    """Count the MACs of a backbone's forward, image by image.

    Args:
        backbone (TokenBackbone): With a token reduction.
        record (Record): Of a forward in evaluation.
        directions (Tensor): Scan directions that each block ran, (B,
            layers).
        convention (str): 'exact' counts each direction that ran, 'paper'
            half of it. Defaults to 'exact'.

    Returns:
        Tensor: (B,) float64.

    Raises:
        ValueError: If the convention is unknown.
    """
    share = direction_count(convention) / 2
    # Nothing is reduced before the first block.
    patches = record.lengths[0] - backbone.summary_tokens.count
    macs = directions.new_tensor(
        backbone.embed_macs(patches)
        + backbone.reduction.module_macs(backbone, patches)
    )
    lengths = directions.new_tensor(record.lengths)
    # A block's cost is linear in its directions.
    none, one = (
        directions.new_tensor([backbone.layer_macs(n, d) for n in lengths])
        for d in (0, 1)
    )
    return macs + (none + (one - none) * directions * share).sum(1)
