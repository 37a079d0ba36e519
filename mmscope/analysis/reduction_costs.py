"""What images cost in one stage, reduced or not."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mmscope.analysis.costs import direction_count, stage_costs
from mmscope.analysis.pass_costs import pass_macs
from mmscope.models import TokenBackbone
from mmscope.models.layers import Record
from mmscope.models.scoping import PassRecord


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
    assert backbone.reduction is not None, 'without one there are closed forms'
    macs = directions.new_tensor(
        backbone.embed_macs(patches)
        + backbone.read_out_macs()
        + backbone.reduction.module_macs(backbone, patches)
    )
    lengths = directions.new_tensor(record.lengths)
    # A block's cost is linear in its directions.
    none, one = (
        directions.new_tensor([backbone.layer_macs(n, d) for n in lengths])
        for d in (0, 1)
    )
    return macs + (none + (one - none) * directions * share).sum(1)


def ran_directions(record: Record, num_images: int) -> Tensor:
    """Read how many scan directions each block ran.

    Args:
        record (Record): Of a forward in evaluation.
        num_images (int): Images B of it.

    Returns:
        Tensor: (B, layers) float64, 2 where nobody decided.
    """
    both = torch.full((num_images,), 2.0, dtype=torch.float64)
    return torch.stack(
        [
            both if ran is None else ran.sum(1).double().cpu()
            for ran in record.directions
        ],
        1,
    )


def one_stage_macs(
    backbone: nn.Module,
    record: Record,
    num_images: int,
    convention: str = 'paper',
) -> Tensor:
    """Count the MACs of a one-stage backbone's forward, image by image.

    Args:
        backbone (TokenBackbone | nn.Module): With or without a token
            reduction; or of another project.
        record (Record): Of the forward, a :class:`PassRecord` of another
            project's backbone.
        num_images (int): Images B of it.
        convention (str): 'paper' or 'exact'. Defaults to 'paper'.

    Returns:
        Tensor: (B,) float64.

    Raises:
        ValueError: If the convention is unknown.
    """
    if not isinstance(backbone, TokenBackbone):
        seen = cast(PassRecord, record)
        macs = pass_macs(
            backbone, seen.image_size, convention, seen.in_channels
        )
        return torch.full((num_images,), macs, dtype=torch.float64)
    if backbone.reduction is not None:
        ran = ran_directions(record, num_images)
        return measured_macs(backbone, record, ran, convention)
    # Costs depend on how many patches a grid has, not on its sides.
    patches = record.lengths[0] - backbone.summary_tokens.count
    macs = stage_costs(backbone, (1, patches), convention).full
    return torch.full((num_images,), macs, dtype=torch.float64)
