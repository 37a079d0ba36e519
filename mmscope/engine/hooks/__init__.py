"""Hooks."""

from .class_pictures import ClassPicturesHook
from .confidence_gate import ConfidenceGateHook
from .first_bad_layer import FirstBadLayerHook
from .informative_selection import InformativeSelectionHook
from .token_reduction import TokenReductionHook

__all__ = [
    'ClassPicturesHook',
    'ConfidenceGateHook',
    'FirstBadLayerHook',
    'InformativeSelectionHook',
    'TokenReductionHook',
]
