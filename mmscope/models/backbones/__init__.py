"""Backbones."""

from .branches import CoarseBranch, FineBranch
from .mambascope import MambaScope, StageOutputs
from .vim import VisionMamba

__all__ = [
    'CoarseBranch',
    'FineBranch',
    'MambaScope',
    'StageOutputs',
    'VisionMamba',
]
