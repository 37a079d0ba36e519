"""Which share of what exits promise is won, by batch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from mmscope.benchmark.gpu.models import EXIT_RATIOS, measure
from mmscope.benchmark.gpu.scale import CellPlan, Scale
from mmscope.benchmark.gpu.steps import Step
from mmscope.benchmark.models import SCOPE, VIM
from mmscope.benchmark.subjects import make_subjects

BUDGET_S, LIMIT_S = 8.0, 45.0


def gated_steps(scale: Scale) -> Iterator[Step]:
    """List the batches.

    Args:
        scale (Scale): Batches and device.

    Yields:
        Step: One a batch.
    """
    for batch in scale.gated_batches:
        plan = CellPlan('small', scale.side, batch, budget_s=BUDGET_S)
        yield Step(plan.name, partial(_cell, plan, scale), LIMIT_S)


def _cell(plan: CellPlan, scale: Scale, left: float) -> list[dict]:
    with scale.device:
        field = make_subjects(
            scale.arch(plan.arch),
            plan.resolution,
            device=scale.device,
            exit_ratios=EXIT_RATIOS,
            deit_arch=scale.deit,
        )
    ours = [c for c in field.subjects if c.kind in (VIM, SCOPE)]
    field = type(field)(ours)
    return measure(plan, field, scale, min(plan.budget_s, left))
