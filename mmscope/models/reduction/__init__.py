"""Token reductions: what shortens the sequence between blocks."""

from .dyvm import DyVM
from .dyvm_decisions import DyVMRecord, forced_decisions
from .hidden_align import HiddenAlign
from .r_meeto import RMeeTo
from .stages import ReductionStage
from .token_reduction import (
    TokenReduction,
    find_reduced_backbone,
    reduces_tokens,
)

__all__ = [
    'DyVM',
    'DyVMRecord',
    'HiddenAlign',
    'RMeeTo',
    'ReductionStage',
    'TokenReduction',
    'find_reduced_backbone',
    'forced_decisions',
    'reduces_tokens',
]
