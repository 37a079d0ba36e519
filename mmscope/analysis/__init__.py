"""What a model costs: closed forms and counters (torch only)."""

from mmscope.analysis.breakdown import CostBreakdown, count_costs
from mmscope.analysis.costs import StageCosts, mean_cost, stage_costs
from mmscope.analysis.counter import SharedCostCounter
from mmscope.analysis.model_costs import closed_form, model_costs
from mmscope.analysis.reduction_costs import measured_macs

__all__ = [
    'CostBreakdown',
    'SharedCostCounter',
    'StageCosts',
    'closed_form',
    'count_costs',
    'mean_cost',
    'measured_macs',
    'model_costs',
    'stage_costs',
]
