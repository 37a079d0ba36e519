"""Operators of Vision Mamba: selective scan and causal convolution."""

from .bidirectional import bidirectional_inner, composed, scan_direction
from .direction import DirectionModules, DirectionWeights
from .dispatch import BACKENDS, available_backends, why_unavailable
from .extension import cpu_isa, cpu_isas, set_cpu_isa
from .functional import causal_conv1d, selective_scan
from .fused_cpu import add_residual, add_rms_norm, rms_norm
from .precision import at_least_float32

__all__ = [
    'BACKENDS',
    'DirectionModules',
    'DirectionWeights',
    'add_residual',
    'add_rms_norm',
    'at_least_float32',
    'available_backends',
    'bidirectional_inner',
    'causal_conv1d',
    'composed',
    'cpu_isa',
    'cpu_isas',
    'rms_norm',
    'scan_direction',
    'selective_scan',
    'set_cpu_isa',
    'why_unavailable',
]
