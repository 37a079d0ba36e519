"""What images cost in their forwards, neck and heads included."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mmscope.analysis import StageCosts, add_heads, record_costs
from mmscope.models.scoping import ExitRecord, HostGate, TwoStage


def pays_head_by_stage(backbone: nn.Module) -> bool:
    """Tell a classifier, whose head belongs to every stage that runs."""
    return getattr(backbone, 'out_type', None) == 'cls_token'


def image_costs(
    backbone: TwoStage,
    records: Sequence[ExitRecord],
    outside: float,
    convention: str = 'paper',
) -> list[list[StageCosts]]:
    """Compute what each image costs in each of its forwards.

    As in ``model_costs``, a classifier's head is part of both stages, once
    each, however often it ran.

    Args:
        backbone (TwoStage): Its gate tells who asked the head.
        records (Sequence[ExitRecord]): One a forward (window, view).
        outside (float): MACs an image that were counted outside the
            backbone in these forwards.
        convention (str): 'paper' or 'exact'. Defaults to 'paper'.

    Returns:
        list[list[StageCosts]]: For each forward one an image.
    """
    calls = len(records)
    if pays_head_by_stage(backbone):
        calls = head_calls(backbone, records)
    found = []
    for record in records:
        regions = record.grid[0] * record.grid[1]
        counts = record.regions_to_refine.tolist()
        costs = {
            k: add_heads(
                record_costs(backbone, record, convention, k / regions),
                backbone,
                outside / calls,
            )
            for k in set(counts)
        }
        found.append([costs[k] for k in counts])
    return found


def head_calls(backbone: TwoStage, records: Sequence[ExitRecord]) -> int:
    """Count how often a classifier's head ran in these forwards.

    The host predicts once a forward. A gate that asks the host, and not an
    exit head of the backbone, has the head predict before, where it decides.
    """
    calls = len(records)
    if isinstance(backbone.gate, HostGate):
        calls += sum(record.confidence is not None for record in records)
    return calls
