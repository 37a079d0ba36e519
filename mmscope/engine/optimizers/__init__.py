"""Optimiser wrapper constructors."""

from .constructor import OptimWrapperConstructor
from .layer_decay import LayerDecayOptimWrapperConstructor

__all__ = ['LayerDecayOptimWrapperConstructor', 'OptimWrapperConstructor']
