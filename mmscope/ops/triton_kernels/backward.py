"""Launch of the selective scan's backward."""

from __future__ import annotations

import torch
from torch import Tensor

from .backward_kernel import scan_backward_kernel
from .inputs import ScanInputs
from .launch import BACKWARD_WIDTHS, CHUNK, launch
from .spans import span_carries


def scan_backward(
    inputs: ScanInputs, grad: Tensor, states: Tensor
) -> tuple[Tensor | None, ...]:
    """Compute all gradients of one scan, or of both directions' mean.

    Both directions of ``(y_f + y_b) / 2 * silu(z)`` are two scans with the
    gate ``z`` whose outputs each get half the gradient, so one kernel serves.

    Args:
        inputs (ScanInputs): What the forward scanned.
        grad (Tensor): Gradient of the output, (batch, seqlen, dim).
        states (Tensor): States that the forward saved.

    Returns:
        tuple[Tensor | None, ...]: Gradients of u, delta, A, B, C, D, z, bias
        in their shapes and dtypes; None for an absent input.
    """
    plan = inputs.plan(inputs.directions, BACKWARD_WIDTHS, cuts_first=True)
    grad = grad.contiguous()
    scale = 1.0 / inputs.directions
    shape = inputs.u.shape[:2]
    sums = (*shape, plan.spans)
    new = inputs.A.new_empty
    u, delta = torch.empty_like(inputs.u), torch.empty_like(inputs.delta)
    A = new((*sums, inputs.d_state, inputs.dim))
    B = new((plan.blocks, *inputs.u.shape[:3], inputs.d_state))
    C = torch.empty_like(B)
    D = None if inputs.D is None else new((*sums, inputs.dim))
    # Two directions' parts are added: in float32.
    z = None if inputs.z is None else torch.empty_like(u, dtype=A.dtype)
    bias = None if inputs.bias is None else new((*sums, inputs.dim))
    flags = inputs.flags(plan)
    rows = inputs.directions * inputs.batch
    programs = plan.blocks * rows * plan.spans
    scratch = new((programs, CHUNK, flags['STATES'], plan.channels))
    carries = span_carries(inputs, plan, grad, scale)
    launch(
        scan_backward_kernel,
        (plan.blocks, rows, plan.spans),
        *(inputs.u, inputs.delta, inputs.A, inputs.B, inputs.C),
        *(inputs.D, inputs.z, inputs.bias),
        *(grad, states, carries, scratch, u, delta, A, B, C, D, z, bias),
        *(inputs.batch, inputs.seqlen, plan.span, *inputs.offsets),
        inputs.reverse,
        SCALE=scale,
        HAS_D=D is not None,
        HAS_Z=z is not None,
        IS_CUT=carries is not None,
        CHUNK=CHUNK,
        **flags | dict(maxnreg=None, num_stages=1),
    )
    return (
        u,
        delta,
        A.sum((1, 2)).mT.contiguous(),
        B.sum(0).to(inputs.dtypes[0]),
        C.sum(0).to(inputs.dtypes[1]),
        D if D is None else D.sum((1, 2)),
        None if z is None or inputs.z is None else z.sum(0).to(inputs.z.dtype),
        bias if bias is None else bias.sum((1, 2)),
    )
