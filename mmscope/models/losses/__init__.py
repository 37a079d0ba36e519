"""Training losses of two-stage models."""

from .distillation import KL_DIRECTIONS, coarse_fine_kl
from .early_exit import (
    TrainsCoarseStage,
    exit_head_losses,
    feature_consistency,
    multi_label_targets,
    stage_outputs,
)
from .token_reduction import (
    TrainsReduction,
    kept_token_error,
    only_record,
)

__all__ = [
    'KL_DIRECTIONS',
    'TrainsCoarseStage',
    'TrainsReduction',
    'coarse_fine_kl',
    'exit_head_losses',
    'feature_consistency',
    'kept_token_error',
    'multi_label_targets',
    'only_record',
    'stage_outputs',
]
