"""Backbones."""

from .mambascope import MambaScope, StageOutputs
from .vim import VisionMamba

__all__ = ['MambaScope', 'StageOutputs', 'VisionMamba']
