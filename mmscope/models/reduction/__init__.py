"""Token reductions: what shortens the sequence between blocks."""

from .hidden_align import HiddenAlign
from .r_meeto import RMeeTo
from .stages import ReductionStage
from .token_reduction import TokenReduction, reduces_tokens

__all__ = [
    'HiddenAlign',
    'RMeeTo',
    'ReductionStage',
    'TokenReduction',
    'reduces_tokens',
]
