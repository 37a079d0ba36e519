"""Metrics of the early exit."""

from mmscope.evaluation.early_exit_metric import EarlyExitMetric

__all__ = ['EarlyExitMetric']
