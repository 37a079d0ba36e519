"""The two operators as functions: check, choose a backend, call its op."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_conv_inputs, check_scan_inputs
from .dispatch import resolve_conv, resolve_scan
from .library import op
from .mamba_ssm import selective_scan_mamba_ssm
from .recompute import register_recomputed_scan
from .reference import causal_conv1d_reference, selective_scan_reference
from .transforms import is_transformed

# Of PyTorch's own operators, so it runs on every device.
register_recomputed_scan(
    'reference', ('CompositeExplicitAutograd',), selective_scan_reference
)
register_recomputed_scan('mamba_ssm', ('CUDA',), selective_scan_mamba_ssm)


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
    *,
    gaps: Tensor | None = None,
) -> Tensor:
    """Run the selective state space recurrence over a sequence.

    Mamba (arXiv:2312.00752), Eq. 2a-2b: with ``h`` starting at zero,
    ``h[t] = exp(delta[t] A) h[t - 1] + delta[t] B[t] u[t]`` and
    ``y[t] = (C[t] h[t] + D u[t]) * silu(z[t])``.

    Any floating dtypes are taken. ``u``, ``delta``, ``B``, ``C`` and ``z`` are
    brought to their common dtype; ``A``, ``D``, ``delta_bias``, the state and
    all arithmetic have at least 32 bits. Under forward-mode AD and the
    transforms of ``torch.func`` 'auto' is the reference, which has all
    derivatives; second derivatives are the reference's everywhere.

    Args:
        u (Tensor): Input sequence, (batch, seqlen, dim).
        delta (Tensor): Step sizes, (batch, seqlen, dim).
        A (Tensor): Decay rates, negative where the state shall forget, (dim,
            d_state).
        B (Tensor): Input maps, (batch, seqlen, d_state).
        C (Tensor): Output maps, (batch, seqlen, d_state).
        D (Tensor, optional): Weights of the skip from ``u`` to the output,
            (dim,). Defaults to None.
        z (Tensor, optional): Gate, (batch, seqlen, dim). Defaults to None.
        delta_bias (Tensor, optional): Added to ``delta``, (dim,). Defaults to
            None.
        delta_softplus (bool): Whether the softplus of the (biased) ``delta``
            is the step size. Defaults to False.
        reverse (bool): Run from the last token to the first. Defaults to
            False.
        backend (str): 'auto', 'reference', 'cpu', 'triton' or 'mamba_ssm'.
            Defaults to 'auto', the fastest one that runs.
        gaps (Tensor, optional): Idle steps before each token, in the
            direction of this call, (batch, seqlen), at least 0: the state
            decays over ``delta + gaps * softplus(delta_bias)``, as if tokens
            without input had stood there. They need ``delta_bias``, and all
            arithmetic then has at least 32 bits. Defaults to None.

    Returns:
        Tensor: Output (batch, seqlen, dim) in the dtype of ``u``.

    Raises:
        RuntimeError: If an explicit backend cannot run.
        ValueError: If shapes, dtypes or devices do not fit, the backend's
            name is unknown, or gaps come without ``delta_bias``.
    """
    check_scan_inputs(u, delta, A, B, C, D, z, delta_bias, gaps)
    if gaps is not None and delta_bias is not None:
        x, span = _fold_gaps(u, delta, delta_bias, delta_softplus, gaps)
        # The skip is of the real input.
        y = selective_scan(x, span, A, B, C, reverse=reverse, backend=backend)
        y = y if D is None else y + D.to(y.dtype) * u.to(y.dtype)
        y = y if z is None else y * F.silu(z.to(y.dtype))
        return y.to(u.dtype)
    dtype = _common_dtype(u, delta, B, C, z)
    x, delta, B, C = (i.to(dtype) for i in (u, delta, B, C))
    z = z if z is None else z.to(dtype)
    exact = torch.promote_types(dtype, torch.float32)
    D, delta_bias = (i if i is None else i.to(exact) for i in (D, delta_bias))
    name = resolve_scan(backend, x)
    if name == 'reference' and is_transformed():
        # Not as one operator, which would lose what is asked for.
        args = (x, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse)
        return selective_scan_reference(*args).to(u.dtype)
    # `save_states` is the autograd kernel's to set.
    y, _ = op(f'selective_scan_{name}')(
        *(x, delta, A.to(exact), B, C, D, z, delta_bias),
        *(delta_softplus, reverse, False),
    )
    return y.to(u.dtype)


def _fold_gaps(
    u: Tensor,
    delta: Tensor,
    delta_bias: Tensor,
    delta_softplus: bool,
    gaps: Tensor,
) -> tuple[Tensor, Tensor]:
    """Write idle steps as a scan that has none.

    With a step of delta + idle the state decays as it shall, and takes in
    (delta + idle) B x, which is delta B u for x = u * delta / (delta + idle).
    So any backend can, and the elementwise part has its gradients.

    Returns:
        tuple[Tensor, Tensor]: x and delta + idle, (batch, seqlen, dim).
    """
    exact = torch.promote_types(_common_dtype(u, delta), torch.float32)
    bias = delta_bias.to(exact)
    step = delta.to(exact) + bias
    if delta_softplus:
        step = F.softplus(step, threshold=50)
    idle = gaps.to(exact).unsqueeze(-1) * F.softplus(bias, threshold=50)
    span = step + idle
    # Where nothing is idle the input stays as it is, and 0 / 0 is not asked.
    waits = idle > 0
    share = torch.where(waits, step, 1) / torch.where(waits, span, 1)
    return u.to(exact) * share, span


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = 'silu',
    reverse: bool = False,
    backend: str = 'auto',
) -> Tensor:
    """Convolve each channel with its own kernel, looking back only.

    ``y[t] = act(bias + sum_k weight[:, k] x[t - width + 1 + k])`` with zeros
    before the first token.

    Args:
        x (Tensor): Input sequence, (batch, seqlen, dim).
        weight (Tensor): One kernel per channel, (dim, width).
        bias (Tensor, optional): Bias, (dim,). Defaults to None.
        activation (str, optional): 'silu' or None. Defaults to 'silu'.
        reverse (bool): Look ahead instead, as if the sequence were flipped,
            convolved and flipped back. Defaults to False.
        backend (str): 'auto', 'reference', 'cpu' or 'triton'. Defaults to
            'auto', the fastest one that runs.

    Returns:
        Tensor: Output (batch, seqlen, dim) in the dtype of ``x``.

    Raises:
        RuntimeError: If an explicit backend cannot run.
        ValueError: If shapes, dtypes, devices or the activation do not fit,
            or the backend's name is unknown.
    """
    check_conv_inputs(x, weight, bias, activation)
    exact = torch.promote_types(x.dtype, torch.float32)
    weight = weight.to(exact)
    bias = bias if bias is None else bias.to(exact)
    name = resolve_conv(backend, x)
    if name == 'reference':
        return causal_conv1d_reference(x, weight, bias, activation, reverse)
    return op(f'causal_conv1d_{name}')(
        x, weight, bias, activation == 'silu', reverse
    )


def _common_dtype(*tensors: Tensor | None) -> torch.dtype:
    return functools.reduce(
        torch.promote_types, (x.dtype for x in tensors if x is not None)
    )
