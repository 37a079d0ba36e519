"""Hooks."""

from .confidence_gate import ConfidenceGateHook
from .informative_selection import InformativeSelectionHook

__all__ = ['ConfidenceGateHook', 'InformativeSelectionHook']
