"""What a model costs: closed forms and counters (torch only)."""

from mmscope.analysis.breakdown import CostBreakdown
from mmscope.analysis.costs import StageCosts, mean_cost, stage_costs
from mmscope.analysis.counter import SharedCostCounter
from mmscope.analysis.counting import count_costs
from mmscope.analysis.model_costs import (
    add_heads,
    closed_form,
    model_costs,
)
from mmscope.analysis.pass_costs import (
    exit_only_costs,
    observe_any,
    pass_macs,
    record_costs,
)
from mmscope.analysis.reduction_costs import (
    measured_macs,
    one_stage_macs,
    ran_directions,
)

__all__ = [
    'CostBreakdown',
    'SharedCostCounter',
    'StageCosts',
    'add_heads',
    'closed_form',
    'count_costs',
    'exit_only_costs',
    'mean_cost',
    'measured_macs',
    'one_stage_macs',
    'ran_directions',
    'model_costs',
    'observe_any',
    'pass_macs',
    'record_costs',
    'stage_costs',
]
