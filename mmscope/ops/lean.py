"""Fused operators for inference on a CPU, where memory is the limit.

They write no tensor that only the next line would read. Training composes the
same results of operators that have gradients.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import library
from .dispatch import resolve_scan
from .functional import selective_scan

SCAN, NORM = 'bidirectional_scan_cpu', 'add_rms_norm_cpu'


class ScanDirection(NamedTuple):
    """What one direction of a mixer scans; see :func:`selective_scan`.

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


def bidirectional_scan(
    ahead: ScanDirection,
    back: ScanDirection,
    z: Tensor,
    scored: bool = False,
    backend: str = 'auto',
) -> tuple[Tensor, Tensor | None]:
    """Scan a sequence from both ends and gate the mean of the outputs.

    ``(y_ahead + y_back) / 2 * silu(z)`` (ViM, arXiv:2401.09417, Algorithm 1).
    Without gradients the backend 'cpu' does it in one pass; otherwise it is
    composed of two scans.

    Args:
        ahead (ScanDirection): Scanned from the first token.
        back (ScanDirection): Scanned from the last token.
        z (Tensor): Gate, (batch, seqlen, dim).
        scored (bool): Whether the largest outputs are wanted. Defaults to
            False.
        backend (str): See :func:`selective_scan`. Defaults to 'auto'.

    Returns:
        tuple[Tensor, Tensor | None]: Output (batch, seqlen, dim), and with
        ``scored`` each direction's largest ungated output over the channels,
        (2, batch, seqlen) float32 (float64 stays).

    Raises:
        RuntimeError: If an explicit backend cannot run.
        ValueError: If the backend's name is unknown.
    """
    if _is_fused(backend, (*ahead, *back, z)):
        out, maxima = library.op(SCAN)(
            *map(list, zip(ahead, back, strict=True)), z, scored
        )
        return out, maxima if scored else None
    outputs = [
        selective_scan(
            *direction,
            delta_softplus=True,
            reverse=direction is back,
            backend=backend,
        )
        for direction in (ahead, back)
    ]
    maxima = None
    if scored:
        maxima = torch.stack([largest(y) for y in outputs])
    return sum(outputs) * (F.silu(z) * 0.5), maxima


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
    given = (x, weight) if residual is None else (x, weight, residual)
    if _is_fused('auto', given):
        return library.op(NORM)(x, residual, weight, eps)
    stream = x.to(torch.promote_types(x.dtype, torch.float32))
    stream = stream if residual is None else residual + stream
    return rms_norm(stream, weight, eps), stream


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalise the last axis; see :func:`add_rms_norm`."""
    x = x.float()
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    return (x * scale).to(weight.dtype) * weight


def largest(y: Tensor) -> Tensor:
    """Return the largest value over the channels, at least in float32."""
    return y.amax(-1).to(torch.promote_types(y.dtype, torch.float32))


def _is_fused(backend: str, inputs: tuple[Tensor, ...]) -> bool:
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        return False
    dtypes = {x.dtype for x in inputs}
    return (
        torch.float64 not in dtypes
        and resolve_scan(backend, inputs[0]) == 'cpu'
    )


def _scan_fake(u: list[Tensor], *args: object) -> tuple[Tensor, Tensor]:
    batch, seqlen, _ = u[0].shape
    scored = args[-1]
    maxima = u[0].new_empty(
        (2, batch, seqlen) if scored else (0,), dtype=torch.float32
    )
    return u[0].new_empty(u[0].shape), maxima


def _norm_fake(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    return (
        x.new_empty(x.shape, dtype=weight.dtype),
        x.new_empty(x.shape, dtype=torch.float32),
    )


def _scan_flops(
    u: list, delta: list, A: list, *args: object, **_: object
) -> int:
    return sum(
        library._scan_flops(*shapes)
        for shapes in zip(u, delta, A, strict=True)
    )


_NAMES = ('u', 'delta', 'A', 'B', 'C', 'D', 'delta_bias')
library._define(
    f'{SCAN}({", ".join(f"Tensor[] {name}" for name in _NAMES)}, Tensor z, '
    'bool scored) -> (Tensor, Tensor)'
)
library._define(
    f'{NORM}(Tensor x, Tensor? residual, Tensor weight, float eps) '
    '-> (Tensor, Tensor)'
)
library._register_fake(SCAN, _scan_fake)
library._register_fake(NORM, _norm_fake)
library._register_flops(SCAN)(_scan_flops)
