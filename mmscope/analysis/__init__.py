"""What a model costs: closed forms and counters (torch only)."""

from mmscope.analysis.costs import StageCosts, mean_cost, stage_costs
from mmscope.analysis.counter import SharedCostCounter
from mmscope.analysis.model_costs import model_costs

__all__ = [
    'SharedCostCounter',
    'StageCosts',
    'mean_cost',
    'model_costs',
    'stage_costs',
]
