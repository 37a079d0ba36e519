"""What one image costs in its forwards, neck and heads included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from mmscope.analysis import StageCosts, stage_costs


def pays_head_by_stage(backbone: nn.Module) -> bool:
    """Tell a classifier, whose head belongs to every stage that runs.

    Args:
        backbone (nn.Module): Any mmscope backbone.

    Returns:
        bool: True if the backbone gives cls tokens; the neck and heads of
        dense tasks run once an image and are ``shared``.
    """
    return getattr(backbone, 'out_type', 'featmap') == 'cls_token'


def image_costs(
    backbone: nn.Module,
    records: Sequence[Any],
    outside: float,
    convention: str = 'paper',
) -> list[StageCosts]:
    """Compute what one image costs in each of its forwards.

    As in ``model_costs``, a classifier's head is part of both stages. The
    host calls it once more on the cls token of an image that exited, which
    is the same prediction again and not counted.

    Args:
        backbone (nn.Module): ``MambaScope``.
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
    # One call by the host and, where it decided, one by the gate.
    calls = sum(1 if r.confidence is None else 2 for r in records)
    head = outside / calls
    return [
        replace(cost, coarse=cost.coarse + head, fine=cost.fine + head)
        for cost in costs
    ]
