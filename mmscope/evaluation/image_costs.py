"""What one image costs in its forwards, neck and heads included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from mmscope.analysis import StageCosts, stage_costs
from mmscope.models.scoping import ExitRecord, HostGate, TwoStage


def pays_head_by_stage(backbone: nn.Module) -> bool:
    """Tell a classifier, whose head belongs to every stage that runs.

    Args:
        backbone (nn.Module): Any mmscope backbone.

    Returns:
        bool: True if the backbone gives cls tokens; the neck and heads of
        dense tasks run once an image and are ``shared``.
    """
    return backbone.out_type == 'cls_token'


def image_costs(
    backbone: TwoStage,
    records: Sequence[ExitRecord],
    outside: float,
    convention: str = 'paper',
) -> list[StageCosts]:
    """Compute what one image costs in each of its forwards.

    As in ``model_costs``, a classifier's head is part of both stages, once
    each, however often it ran.

    Args:
        backbone (TwoStage): Its gate tells who asked the head.
        records (Sequence[ExitRecord]): One a forward (window, view).
        outside (float): MACs an image that were counted outside the
            backbone in these forwards.
        convention (str): 'paper' or 'exact'. Defaults to 'paper'.

    Returns:
        list[StageCosts]: One a forward.
    """
    costs = [stage_costs(backbone, r.grid, convention) for r in records]
    if not pays_head_by_stage(backbone):
        share = outside / len(records)
        return [replace(cost, shared=share) for cost in costs]
    head = outside / head_calls(backbone, records)
    return [
        replace(cost, coarse=cost.coarse + head, fine=cost.fine + head)
        for cost in costs
    ]


def head_calls(backbone: TwoStage, records: Sequence[ExitRecord]) -> int:
    """Count how often a classifier's head ran in these forwards.

    The host predicts once a forward. A gate that asks the host, and not an
    exit head of the backbone, has the head predict before, where it decides.

    Args:
        backbone (TwoStage): Of the classifier.
        records (Sequence[ExitRecord]): One a forward.

    Returns:
        int: At least one a forward.
    """
    calls = len(records)
    if isinstance(backbone.gate, HostGate):
        calls += sum(record.confidence is not None for record in records)
    return calls
