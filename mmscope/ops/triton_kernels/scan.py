"""Launches of the selective scan's forward."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from .launch import (
    CHUNK,
    ONE,
    Plan,
    last_dense,
    launch,
    plan_scan,
    with_equal_strides,
)
from .scan_kernels import both_kernel, carry_kernel, scan_kernel, span_kernel


class ScanInputs:
    """The inputs of one or two scans in the layout that kernels read.

    Args:
        u (Tensor): Input sequences, (directions, batch, seqlen, dim).
        delta (Tensor): Step sizes, like ``u``.
        A (Tensor): Decay rates, (directions, dim, d_state).
        B (Tensor): Input maps, (directions, batch, seqlen, d_state).
        C (Tensor): Output maps, like ``B``.
        D (Tensor | None): Skip weights, (directions, dim).
        z (Tensor | None): Gate, (batch, seqlen, dim).
        bias (Tensor | None): Bias of the step sizes, (directions, dim).
        softplus (bool): Whether softplus makes the step sizes.
        reverse (bool): Whether the first direction runs backwards; the second
            one runs the other way.
    """

    def __init__(
        self,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        z: Tensor | None,
        bias: Tensor | None,
        softplus: bool,
        reverse: bool,
    ) -> None:
        self.u, self.delta = u.contiguous(), delta.contiguous()
        self.A = A.contiguous()
        self.B, self.C = with_equal_strides(B, C)
        self.D = D if D is None else D.contiguous()
        self.z = last_dense(z)
        self.bias = bias if bias is None else bias.contiguous()
        self.directions, self.batch, self.seqlen, self.dim = u.shape
        self.d_state = A.shape[2]
        self.softplus, self.reverse = softplus, int(reverse)

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of B and C (direction, batch, token), then of z."""
        gate = (0, 0) if self.z is None else self.z.stride()[:2]
        return (*self.B.stride()[:3], *gate)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Sizes (seqlen, dim, d_state)."""
        return self.seqlen, self.dim, self.d_state

    def flags(self, plan: Plan) -> dict[str, object]:
        """Return the constants that every scan kernel is compiled for."""
        return dict(
            HAS_BIAS=self.bias is not None,
            SOFTPLUS=self.softplus,
            CHANNELS=plan.channels,
            STATES=triton.next_power_of_2(self.d_state),
            num_warps=1,
        )

    def plan(self, programs_per_sequence: int) -> Plan:
        """Return the plan for this many programs a batch entry and block."""
        sequences = programs_per_sequence * self.batch
        return plan_scan(sequences, self.seqlen, self.dim)


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
        inputs.batch,
        *inputs.sizes,
        plan.span,
        *inputs.strides,
        inputs.reverse,
        ONE,
        SCALE=scale,
        HAS_Z=inputs.z is not None,
        OF_GRADIENT=grad is not None,
        **flags,
    )
    launch(
        carry_kernel,
        (plan.blocks, rows),
        *(inputs.A, carries, totals),
        *(inputs.batch, inputs.dim, inputs.d_state, plan.spans),
        int(grad is not None),
        inputs.reverse,
        ONE,
        CHANNELS=flags['CHANNELS'],
        STATES=flags['STATES'],
        num_warps=1,
    )
    return carries


def _new_states(inputs: ScanInputs, save_states: bool) -> Tensor:
    chunks = triton.cdiv(inputs.seqlen, CHUNK)
    shape = (inputs.directions, inputs.batch, chunks, *inputs.A.shape[:0:-1])
    return inputs.A.new_empty(shape if save_states else (0,))


def scan_forward(
    inputs: ScanInputs, save_states: bool
) -> tuple[Tensor, Tensor]:
    """Scan one direction.

    Args:
        inputs (ScanInputs): Inputs with one direction.
        save_states (bool): Whether a backward will follow.

    Returns:
        tuple[Tensor, Tensor]: Output (1, batch, seqlen, dim) in the dtype of
        ``u`` and states (1, batch, chunks, d_state, dim) float32, empty if
        not saved.
    """
    plan = inputs.plan(1)
    out = torch.empty_like(inputs.u)
    states = _new_states(inputs, save_states)
    carries = span_carries(inputs, plan)
    launch(
        scan_kernel,
        (plan.blocks, inputs.batch, plan.spans),
        *(inputs.u, inputs.delta, inputs.A, inputs.B, inputs.C),
        *(inputs.D, inputs.z, inputs.bias, out, states, carries),
        *inputs.sizes,
        plan.span,
        *inputs.strides[1:],
        inputs.reverse,
        ONE,
        HAS_D=inputs.D is not None,
        HAS_Z=inputs.z is not None,
        IS_CUT=carries is not None,
        SAVES=save_states,
        CHUNK=CHUNK,
        **inputs.flags(plan),
    )
    return out, states


def both_directions_forward(
    inputs: ScanInputs, scored: bool, save_states: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Scan both directions in one launch: out = (y_f + y_b) / 2 * silu(z).

    Args:
        inputs (ScanInputs): Inputs with two directions and a gate.
        scored (bool): Whether the largest channel of y_f and of y_b is wanted.
        save_states (bool): Whether a backward will follow.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Output (batch, seqlen, dim) in the
        dtype of ``u``; the largest channels (2, batch, seqlen) float32, empty
        if not wanted; states as of :func:`scan_forward`.
    """
    plan = inputs.plan(1)
    out = torch.empty_like(inputs.u[0])
    shape = (plan.blocks, *inputs.u.shape[:3])
    maxima = inputs.A.new_empty(shape if scored else (0,))
    states = _new_states(inputs, save_states)
    carries = span_carries(inputs, plan)
    launch(
        both_kernel,
        (plan.blocks, inputs.batch, plan.spans),
        *(inputs.u, inputs.delta, inputs.A, inputs.B, inputs.C),
        *(inputs.D, inputs.z, inputs.bias, out, maxima, states, carries),
        *inputs.sizes,
        plan.span,
        *inputs.strides,
        ONE,
        HAS_D=inputs.D is not None,
        IS_CUT=carries is not None,
        SAVES=save_states,
        SCORED=scored,
        CHUNK=CHUNK,
        **inputs.flags(plan),
    )
    return out, maxima.amax(0) if scored else maxima, states
