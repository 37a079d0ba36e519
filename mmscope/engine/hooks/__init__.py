"""Hooks."""

from .class_pictures import ClassPicturesHook
from .confidence_gate import ConfidenceGateHook
from .informative_selection import InformativeSelectionHook
from .token_reduction import TokenReductionHook

__all__ = [
    'ClassPicturesHook',
    'ConfidenceGateHook',
    'InformativeSelectionHook',
    'TokenReductionHook',
]
