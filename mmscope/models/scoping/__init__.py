"""Coarse-to-fine scoping as pure functions, and the exit gate."""

from .gate import (
    MULTI_LABEL_CONFIDENCES,
    SOFTMAX_CONFIDENCES,
    ExitRecord,
    Gate,
    attach_gate,
    check_threshold,
    exit_mask,
    find_backbone,
    multi_label_confidence,
    softmax_confidence,
    unwrap_model,
)
from .importance import SCORE_METRICS, accumulate_scores, token_scores
from .selection import (
    CLS_POSITIONS,
    TOKEN_ORDERS,
    FineLayout,
    fine_children,
    gather_tokens,
    num_refined,
    split_regions,
)

__all__ = [
    'CLS_POSITIONS',
    'MULTI_LABEL_CONFIDENCES',
    'SCORE_METRICS',
    'SOFTMAX_CONFIDENCES',
    'TOKEN_ORDERS',
    'ExitRecord',
    'FineLayout',
    'Gate',
    'accumulate_scores',
    'attach_gate',
    'check_threshold',
    'exit_mask',
    'find_backbone',
    'fine_children',
    'gather_tokens',
    'multi_label_confidence',
    'num_refined',
    'softmax_confidence',
    'split_regions',
    'token_scores',
    'unwrap_model',
]
