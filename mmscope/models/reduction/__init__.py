"""Token reductions: what shortens the sequence between blocks."""

from .dyvm import DyVM
from .dyvm_decisions import DyVMRecord, forced_decisions
from .token_reduction import TokenReduction, reduces_tokens

__all__ = [
    'DyVM',
    'DyVMRecord',
    'TokenReduction',
    'forced_decisions',
    'reduces_tokens',
]
