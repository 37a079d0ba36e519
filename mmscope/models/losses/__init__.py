"""Training losses of two-stage models."""

from .early_exit import (
    exit_head_losses,
    feature_consistency,
    multi_label_targets,
    take_stage_outputs,
)

__all__ = [
    'exit_head_losses',
    'feature_consistency',
    'multi_label_targets',
    'take_stage_outputs',
]
