"""Fused C++ operators for inference, where memory is what limits a CPU.

They write no tensor that only the next line would read. Training composes the
same results of operators that have gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import library
from .checks import check_norm_inputs
from .direction import DirectionWeights
from .dispatch import resolve_scan
from .precision import at_least_float32

INNER, NORM = 'bidirectional_inner_cpu', 'add_rms_norm_cpu'


def can_fuse(backend: str, *inputs: Tensor | None) -> bool:
    """Tell whether the fused operators serve these inputs.

    Args:
        backend (str): The one that was resolved, one of ``BACKENDS``.
        *inputs (Tensor | None): All inputs that may want a gradient.

    Returns:
        bool: True if the backend is 'cpu', nobody wants a gradient, nothing
        is float64 and nothing is traced: torch.jit.trace traces twice, with
        and without gradients, and compares.
    """
    traced = torch.jit.is_tracing()
    if backend != 'cpu' or traced or library._needs_grad(inputs):
        return False
    return all(x is None or x.dtype != torch.float64 for x in inputs)


def fused_inner(
    x: Tensor,
    z: Tensor,
    forward: DirectionWeights,
    backward: DirectionWeights,
    scored: bool,
) -> tuple[Tensor, Tensor]:
    """Run a mixer between its projections, one batch item after the other.

    What lies between the kernels is float32 and small enough for a cache.

    Args:
        x (Tensor): Input of both convolutions, (batch, seqlen, dim).
        z (Tensor): Gate, (batch, seqlen, dim).
        forward (DirectionWeights): Weights of the forward direction.
        backward (DirectionWeights): Weights of the backward direction.
        scored (bool): Whether the largest outputs are wanted.

    Returns:
        tuple[Tensor, Tensor]: ``(y_f + y_b) / 2 * silu(z)`` in the dtype of
        ``x``, and each direction's largest ungated output over the channels,
        (2, batch, seqlen) float32, empty unless ``scored``.
    """
    pairs = map(list, zip(forward, backward, strict=True))
    return library.op(INNER)(x, z, *pairs, scored)


def add_rms_norm(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Add a branch to the residual stream and normalise the stream.

    RMSNorm: Zhang and Sennrich, arXiv:1910.07467, Eq. 4, with float32
    statistics.

    Args:
        x (Tensor): Branch, (..., dim).
        residual (Tensor | None): Stream, None if there is none yet.
        weight (Tensor): Scale of the norm, (dim,).
        eps (float): Added to the mean square.

    Returns:
        tuple[Tensor, Tensor]: The norm in the dtype of ``weight``, and the
        stream in float32 (float64 stays, for checks).

    Raises:
        ValueError: If a shape or a device does not fit.
    """
    check_norm_inputs(x, residual, weight)
    on_cpu = x.device.type == 'cpu'
    backend = resolve_scan('auto', x) if on_cpu else 'reference'
    if can_fuse(backend, x, residual, weight):
        return library.op(NORM)(x, residual, weight, eps)
    stream = add_residual(x, residual)
    return rms_norm(stream, weight, eps), stream


def add_residual(x: Tensor, residual: Tensor | None) -> Tensor:
    """Add a branch to the residual stream, in float32.

    Args:
        x (Tensor): Branch, any shape.
        residual (Tensor | None): Stream, None if there is none yet.

    Returns:
        Tensor: In float32 (float64 stays, for checks).
    """
    x = at_least_float32(x)
    return x if residual is None else residual + x


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalise the last axis; see :func:`add_rms_norm`."""
    x = x.float()
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    return (x * scale).to(weight.dtype) * weight


def _inner_fake(x: Tensor, *args: object) -> tuple[Tensor, Tensor]:
    batch, seqlen, _ = x.shape
    shape = (2, batch, seqlen) if args[-1] else (0,)
    return x.new_empty(x.shape), x.new_empty(shape, dtype=torch.float32)


def _norm_fake(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    return (
        x.new_empty(x.shape, dtype=weight.dtype),
        x.new_empty(x.shape, dtype=torch.float32),
    )


def _inner_flops(
    x: torch.Size,
    z: torch.Size,
    conv_weight: list[torch.Size],
    conv_bias: list[torch.Size],
    x_proj: list[torch.Size],
    dt_proj: list[torch.Size],
    dt_bias: list[torch.Size],
    A_log: list[torch.Size],
    *args: object,
    **options: object,
) -> int:
    products = [*conv_weight, *x_proj, *dt_proj]
    macs = x[0] * x[1] * sum(rows * columns for rows, columns in products)
    return 2 * macs + sum(library._scan_flops(x, x, rates) for rates in A_log)


_PAIRS = ', '.join(f'Tensor[] {name}' for name in DirectionWeights._fields)
library._define(
    f'{INNER}(Tensor x, Tensor z, {_PAIRS}, bool scored) -> (Tensor, Tensor)'
)
library._define(
    f'{NORM}(Tensor x, Tensor? residual, Tensor weight, float eps) '
    '-> (Tensor, Tensor)'
)
library._register_fake(INNER, _inner_fake)
library._register_fake(NORM, _norm_fake)
library._register_flops(INNER)(_inner_flops)
