"""Training losses of two-stage models."""

from .annotations import has_boxes, ignored_label, label_map
from .cell_targets import cell_targets
from .distillation import KL_DIRECTIONS, check_kl_direction, coarse_fine_kl
from .early_exit import (
    TrainsCoarseStage,
    exit_head_losses,
    feature_consistency,
    map_targets,
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
    'cell_targets',
    'check_kl_direction',
    'coarse_fine_kl',
    'exit_head_losses',
    'feature_consistency',
    'has_boxes',
    'ignored_label',
    'label_map',
    'kept_token_error',
    'map_targets',
    'multi_label_targets',
    'only_record',
    'stage_outputs',
]
