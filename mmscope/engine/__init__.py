"""Hooks and optimiser constructors for MMEngine's runner."""

from .hooks import (
    ConfidenceGateHook,
    InformativeSelectionHook,
    TokenReductionHook,
)
from .optimizers import (
    LayerDecayOptimWrapperConstructor,
    OptimWrapperConstructor,
)

__all__ = [
    'ConfidenceGateHook',
    'InformativeSelectionHook',
    'LayerDecayOptimWrapperConstructor',
    'OptimWrapperConstructor',
    'TokenReductionHook',
]
