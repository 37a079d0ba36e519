"""Fused C++ operators for inference, where memory is what limits a CPU.

They write no tensor that only the next line would read. Training composes the
same results of operators that have gradients.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import library
from .checks import check_scan_inputs
from .dispatch import resolve_scan

SCAN, NORM = 'bidirectional_scan_cpu', 'add_rms_norm_cpu'


class ScanDirection(NamedTuple):
    """What one direction of a mixer scans.

    ``u`` and ``delta`` (batch, seqlen, dim), ``A`` (dim, d_state), ``B`` and
    ``C`` (batch, seqlen, d_state), ``D`` and ``delta_bias`` (dim,). The
    softplus of the biased ``delta`` is the step size.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    delta_bias: Tensor


def can_fuse(backend: str, *inputs: Tensor | None) -> bool:
    """Tell whether the fused operators serve these inputs.

    Args:
        backend (str): The one that was resolved, one of ``BACKENDS``.
        *inputs (Tensor | None): All inputs that may want a gradient.

    Returns:
        bool: True if the backend is 'cpu', nobody wants a gradient and
        nothing is float64.
    """
    if backend != 'cpu' or library._needs_grad(inputs):
        return False
    return all(x is None or x.dtype != torch.float64 for x in inputs)


def fused_scan(
    forward: ScanDirection, backward: ScanDirection, z: Tensor, scored: bool
) -> tuple[Tensor, Tensor]:
    """Scan from both ends, average and gate, in one pass over memory.

    Args:
        forward (ScanDirection): Scanned from the first token.
        backward (ScanDirection): Scanned from the last token.
        z (Tensor): Gate, (batch, seqlen, dim).
        scored (bool): Whether the largest outputs are wanted.

    Returns:
        tuple[Tensor, Tensor]: ``(y_f + y_b) / 2 * silu(z)``, and each
        direction's largest ungated output over the channels, (2, batch,
        seqlen) float32, empty unless ``scored``.

    Raises:
        ValueError: If shapes, dtypes or devices do not fit.
    """
    for direction in (forward, backward):
        check_scan_inputs(*direction[:6], z, direction.delta_bias)
    pairs = map(list, zip(forward, backward, strict=True))
    return library.op(SCAN)(*pairs, z, scored)


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
    """
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
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x if residual is None else residual + x


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalise the last axis; see :func:`add_rms_norm`."""
    x = x.float()
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    return (x * scale).to(weight.dtype) * weight


def _scan_fake(u: list[Tensor], *args: object) -> tuple[Tensor, Tensor]:
    batch, seqlen, _ = u[0].shape
    shape = (2, batch, seqlen) if args[-1] else (0,)
    maxima = u[0].new_empty(shape, dtype=torch.float32)
    return torch.empty_like(u[0]), maxima


def _norm_fake(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    return (
        x.new_empty(x.shape, dtype=weight.dtype),
        x.new_empty(x.shape, dtype=torch.float32),
    )


def _scan_flops(
    u: list, delta: list, A: list, *args: object, **options: object
) -> int:
    return sum(map(library._scan_flops, u, delta, A))


_PAIRS = ', '.join(f'Tensor[] {name}' for name in ScanDirection._fields)
library._define(f'{SCAN}({_PAIRS}, Tensor z, bool scored) -> (Tensor, Tensor)')
library._define(
    f'{NORM}(Tensor x, Tensor? residual, Tensor weight, float eps) '
    '-> (Tensor, Tensor)'
)
library._register_fake(SCAN, _scan_fake)
library._register_fake(NORM, _norm_fake)
library._register_flops(SCAN)(_scan_flops)
