"""Training losses of two-stage models."""

from .distillation import KL_DIRECTIONS, coarse_fine_kl
from .early_exit import (
    TrainsCoarseStage,
    exit_head_losses,
    feature_consistency,
    multi_label_targets,
    stage_outputs,
)

__all__ = [
    'KL_DIRECTIONS',
    'TrainsCoarseStage',
    'coarse_fine_kl',
    'exit_head_losses',
    'feature_consistency',
    'multi_label_targets',
    'stage_outputs',
]
