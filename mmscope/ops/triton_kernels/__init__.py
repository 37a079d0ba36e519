"""Triton kernels; importing this package imports triton, so do it late."""

from .backward import scan_backward
from .conv import conv_backward, conv_forward
from .inputs import ScanInputs
from .scan import both_directions_forward, scan_forward

__all__ = [
    'ScanInputs',
    'both_directions_forward',
    'conv_backward',
    'conv_forward',
    'scan_backward',
    'scan_forward',
]
