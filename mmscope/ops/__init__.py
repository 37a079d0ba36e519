"""Operators of Vision Mamba: selective scan and causal convolution."""

from __future__ import annotations

from torch import Tensor

from .checks import check_conv_inputs, check_scan_inputs
from .reference import causal_conv1d_reference, selective_scan_reference

__all__ = [
    'available_backends',
    'causal_conv1d',
    'selective_scan',
    'why_unavailable',
]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    reverse: bool = False,
    backend: str = 'auto',
) -> Tensor:
    check_scan_inputs(u, delta, A, B, C, D, z, delta_bias)
    return selective_scan_reference(
        u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse
    )


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = 'silu',
    reverse: bool = False,
    backend: str = 'auto',
) -> Tensor:
    check_conv_inputs(x, weight, bias, activation)
    return causal_conv1d_reference(x, weight, bias, activation, reverse)


def available_backends(device=None) -> tuple[str, ...]:
    return ('reference',)


def why_unavailable(backend, device='cpu') -> str | None:
    return None if backend == 'reference' else 'not built yet'
