"""Metrics, sweeps and speed of the early exit."""

from mmscope.evaluation.calibration import calibrate, fit_temperature
from mmscope.evaluation.classification import ClassificationScore
from mmscope.evaluation.detection import DetectionScore
from mmscope.evaluation.early_exit_metric import EarlyExitMetric
from mmscope.evaluation.exit_endpoints import score_endpoints
from mmscope.evaluation.gated_scores import ImageScore
from mmscope.evaluation.segmentation import SegmentationScore
from mmscope.evaluation.sweep import sweep
from mmscope.evaluation.sweep_result import SweepResult
from mmscope.evaluation.throughput import (
    measure_throughput,
    representative_images,
)
from mmscope.evaluation.token_reduction_metric import TokenReductionMetric

__all__ = [
    'ClassificationScore',
    'DetectionScore',
    'EarlyExitMetric',
    'ImageScore',
    'SegmentationScore',
    'SweepResult',
    'TokenReductionMetric',
    'calibrate',
    'fit_temperature',
    'measure_throughput',
    'representative_images',
    'score_endpoints',
    'sweep',
]
