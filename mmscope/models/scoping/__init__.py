"""Coarse-to-fine scoping, and the exit gate."""

from .attach import at_threshold, attach_gate, decided_by, find_backbone
from .branches import CoarseBranch, FineBranch
from .checks import check_temperature, check_threshold
from .coarse_to_fine import CoarseToFine
from .detail import count_covering, lost_detail
from .exit_only import ExitOnly
from .gate import ExitHeadGate, Gate, HostGate, WrappedGate, exit_mask
from .layout import CLS_POSITIONS, TOKEN_ORDERS, FineLayout
from .selection import fine_children, num_refined, split_regions
from .stages import ExitRecord, PassRecord, StageOutputs, WholeImageRecord
from .two_stage import TwoStage, is_two_stage

__all__ = [
    'CLS_POSITIONS',
    'TOKEN_ORDERS',
    'CoarseBranch',
    'CoarseToFine',
    'ExitHeadGate',
    'ExitOnly',
    'ExitRecord',
    'FineBranch',
    'FineLayout',
    'Gate',
    'HostGate',
    'PassRecord',
    'StageOutputs',
    'TwoStage',
    'WholeImageRecord',
    'WrappedGate',
    'at_threshold',
    'attach_gate',
    'check_temperature',
    'check_threshold',
    'count_covering',
    'decided_by',
    'exit_mask',
    'find_backbone',
    'fine_children',
    'is_two_stage',
    'lost_detail',
    'num_refined',
    'split_regions',
]
