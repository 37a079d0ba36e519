"""Plain PyTorch versions of the operators: slow, any dtype, the truth.

Symbols follow Mamba (arXiv:2312.00752): ``u`` is the input sequence,
``delta`` the step size, ``A`` the decay rates, ``B`` and ``C`` the per-token
input and output maps, ``D`` the skip weight and ``z`` the gate.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor


def scan_loop(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    state: Tensor | None = None,
    span: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run the recurrence one token at a time, without skip and gate.

    Mamba, Eq. 2a-2b with the discretisation of its section 2:
    ``h[t] = exp(delta[t] A) h[t - 1] + delta[t] B[t] u[t]`` and
    ``y[t] = C[t] h[t]``.

    Args:
        u (Tensor): Input sequence, (batch, seqlen, dim).
        delta (Tensor): Step sizes, (batch, seqlen, dim).
        A (Tensor): Decay rates, (dim, d_state).
        B (Tensor): Input maps, (batch, seqlen, d_state).
        C (Tensor): Output maps, (batch, seqlen, d_state).
        state (Tensor, optional): State before the first token, (batch, dim,
            d_state). Defaults to None, which means zeros.
        span (Tensor, optional): Steps that the state decays over, (batch,
            seqlen, dim). Defaults to None, which means ``delta``.

    Returns:
        tuple[Tensor, Tensor]: Output (batch, seqlen, dim) and the state after
        the last token (batch, dim, d_state).
    """
    batch, seqlen, dim = u.shape
    if state is None:
        state = u.new_zeros(batch, dim, A.shape[1])
    drive = (delta * u).unsqueeze(-1)
    span = (delta if span is None else span).unsqueeze(-1)
    B = B.unsqueeze(-2)
    C = C.unsqueeze(-1)
    outputs = []
    for t in range(seqlen):
        decay = torch.exp(span[:, t] * A)
        state = torch.addcmul(decay * state, drive[:, t], B[:, t])
        outputs.append(torch.matmul(state, C[:, t]))
    if not outputs:
        return 0 * drive.squeeze(-1), state
    return torch.stack(outputs, dim=1).squeeze(-1), state


def selective_scan_reference(
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
    *,
    gaps: Tensor | None = None,
) -> Tensor:
    """Compute the selective scan; see :func:`mmscope.ops.selective_scan`."""
    # At least float32: every step rounds the running state and the roundings
    # add up over the sequence; float64 stays float64, for gradcheck.
    dtype = torch.promote_types(u.dtype, torch.float32)
    delta = delta.to(dtype)
    if delta_bias is not None:
        delta = delta + delta_bias.to(dtype)
    if delta_softplus:
        # A threshold this high makes softplus exact to rounding in float64.
        delta = F.softplus(delta, threshold=50)
    span = delta
    if gaps is not None and delta_bias is not None:
        idle = F.softplus(delta_bias.to(dtype), threshold=50)
        span = delta + gaps.to(dtype).unsqueeze(-1) * idle
    sequences = [u.to(dtype), delta, B.to(dtype), C.to(dtype), span]
    if reverse:
        sequences = [x.flip(1) for x in sequences]
    x, delta, B, C, span = sequences
    with _without_autocast(u.device.type):
        y, _ = scan_loop(x, delta, A.to(dtype), B, C, span=span)
    if reverse:
        y = y.flip(1)
    if D is not None:
        y = y + u.to(dtype) * D.to(dtype)
    if z is not None:
        y = y * F.silu(z.to(dtype))
    return y.to(u.dtype)


def _without_autocast(device: str) -> AbstractContextManager:
    # Its products would be rounded to 16 bits, the state with them.
    if device not in ('cpu', 'cuda'):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def causal_conv1d_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = 'silu',
    reverse: bool = False,
) -> Tensor:
    """Convolve by PyTorch; see :func:`mmscope.ops.causal_conv1d`."""
    dim, width = weight.shape
    dtype = torch.promote_types(x.dtype, torch.float32)
    if x.shape[1] == 0:
        # F.conv1d refuses it; the empty product keeps the inputs' gradients.
        empty = x * weight[:, 0]
        return (empty if bias is None else empty + bias).to(x.dtype)
    sequence = x.to(dtype).transpose(1, 2)
    # Looking back along the reversed sequence is looking ahead: pad the other
    # end and mirror the taps instead of the tokens.
    kernel = weight.to(dtype)
    padding = (width - 1, 0)
    if reverse:
        kernel, padding = kernel.flip(1), (0, width - 1)
    bias = bias if bias is None else bias.to(dtype)
    y = F.conv1d(
        F.pad(sequence, padding), kernel.unsqueeze(1), bias, groups=dim
    )
    if activation == 'silu':
        y = F.silu(y)
    return y.transpose(1, 2).to(x.dtype)
