"""Hooks and optimiser constructors for MMEngine's runner."""

from .hooks import (
    ClassPicturesHook,
    ConfidenceGateHook,
    InformativeSelectionHook,
    TokenReductionHook,
)
from .optimizers import (
    LayerDecayOptimWrapperConstructor,
    OptimWrapperConstructor,
)

__all__ = [
    'ClassPicturesHook',
    'ConfidenceGateHook',
    'InformativeSelectionHook',
    'LayerDecayOptimWrapperConstructor',
    'OptimWrapperConstructor',
    'TokenReductionHook',
]
