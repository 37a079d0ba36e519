"""Launches that find what each span of a cut sequence starts from."""

from __future__ import annotations

from torch import Tensor

from .inputs import ScanInputs
from .launch import Plan, launch
from .span_kernels import carry_kernel, span_kernel


def span_carries(
    inputs: ScanInputs,
    plan: Plan,
    grad: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor | None:
    """Compute what each span starts from where sequences are cut.

    Args:
        inputs (ScanInputs): What is scanned.
        plan (Plan): How it is cut.
        grad (Tensor | None): None for the states of the forward; a gradient
            of the output, (batch, seqlen, dim), for those of the states.
        scale (float): Factor of ``grad``.

    Returns:
        Tensor | None: (directions, batch, spans, d_state, dim) float32, None
        where nothing is cut.
    """
    if plan.spans <= 1:
        return None
    shape = (inputs.directions, inputs.batch, plan.spans)
    new = inputs.A.new_empty
    carries = new((*shape, inputs.d_state, inputs.dim))
    totals = new((*shape, inputs.dim))
    rows = inputs.directions * inputs.batch
    flags = inputs.flags(plan)
    launch(
        span_kernel,
        (plan.blocks, rows, plan.spans),
        *(inputs.u, inputs.delta, inputs.A, inputs.B, inputs.C),
        *(inputs.z, inputs.bias, grad, carries, totals),
        *(inputs.batch, inputs.seqlen, plan.span, *inputs.offsets),
        inputs.reverse,
        SCALE=scale,
        HAS_Z=inputs.z is not None,
        OF_GRADIENT=grad is not None,
        **flags,
    )
    launch(
        carry_kernel,
        (plan.blocks, rows),
        *(inputs.A, carries, totals),
        *(inputs.batch, plan.spans, int(grad is not None), inputs.reverse),
        DIM=inputs.dim,
        D_STATE=inputs.d_state,
        EVEN=flags['EVEN'],
        CHANNELS=flags['CHANNELS'],
        STATES=flags['STATES'],
        num_warps=1,
    )
    return carries
