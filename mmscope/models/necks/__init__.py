"""Necks that need no host framework."""

from .layer_norm import LN2d
from .simple_fpn import SimpleFPN

__all__ = ['LN2d', 'SimpleFPN']
