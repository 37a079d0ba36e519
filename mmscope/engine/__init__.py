"""Hooks and optimiser constructors for MMEngine's runner."""

from .hooks import (
    ClassPicturesHook,
    ConfidenceGateHook,
    FirstBadLayerHook,
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
    'FirstBadLayerHook',
    'InformativeSelectionHook',
    'LayerDecayOptimWrapperConstructor',
    'OptimWrapperConstructor',
    'TokenReductionHook',
]
