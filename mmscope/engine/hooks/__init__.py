"""Hooks."""

from .confidence_gate import ConfidenceGateHook
from .informative_selection import InformativeSelectionHook
from .token_reduction import TokenReductionHook

__all__ = [
    'ConfidenceGateHook',
    'InformativeSelectionHook',
    'TokenReductionHook',
]
