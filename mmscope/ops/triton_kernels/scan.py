"""Launches of the selective scan's forward."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from .inputs import ScanInputs
from .launch import CHUNK, EXACT_WIDTHS, WIDTHS, Plan, launch
from .scan_kernels import scan_kernel
from .spans import span_carries


def _new_states(inputs: ScanInputs, save_states: bool) -> Tensor:
    chunks = triton.cdiv(inputs.seqlen, CHUNK)
    shape = (inputs.directions, inputs.batch, chunks, *inputs.A.shape[1:])
    return inputs.A.new_empty(shape if save_states else (0,))


def _scan_direction(
    inputs: ScanInputs,
    direction: int,
    plan: Plan,
    out: Tensor,
    maxima: Tensor,
    states: Tensor,
    carries: Tensor | None,
    is_last: bool,
) -> None:
    """Scan one direction; the last one finishes ``out`` (batch, ...)."""
    saves, scored = states.numel() > 0, maxima.numel() > 0
    u, delta, A, B, C, D, bias = (
        x if x is None else x[direction]
        for x in (
            *(inputs.u, inputs.delta, inputs.A, inputs.B, inputs.C),
            *(inputs.D, inputs.bias),
        )
    )
    launch(
        scan_kernel,
        (plan.blocks, inputs.batch, plan.spans),
        *(u, delta, A, B, C, D, inputs.z, bias, out),
        maxima[:, direction] if scored else maxima,
        states[direction] if saves else states,
        carries if carries is None else carries[direction],
        *(inputs.seqlen, plan.span),
        # Elements between two blocks' maxima of one direction.
        maxima.stride(0) if scored else 0,
        *inputs.offsets[1:],
        REVERSE=(direction + inputs.reverse) % 2,
        HAS_D=D is not None,
        HAS_Z=inputs.z is not None and is_last,
        ADDS=direction > 0,
        SCORED=scored,
        IS_CUT=carries is not None,
        SAVES=saves,
        CHUNK=CHUNK,
        **inputs.flags(plan),
    )


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
    out, _, states = both_directions_forward(inputs, False, save_states)
    return out.unsqueeze(0), states


def both_directions_forward(
    inputs: ScanInputs, scored: bool, save_states: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Scan both directions: out = (y_f + y_b) / 2 * silu(z).

    A launch a direction: the first leaves its output in the result, where
    the second finds it, takes the mean and gates. That moves no byte more
    than both directions in one program would, which has to leave one's
    outputs until the other comes by, and takes half the registers.

    Args:
        inputs (ScanInputs): Inputs with two directions and a gate, or with
            one direction: then its output is what is gated.
        scored (bool): Whether the largest channel of y_f and of y_b is wanted.
        save_states (bool): Whether a backward will follow.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Output (batch, seqlen, dim) in the
        dtype of ``u``; the largest channels (directions, batch, seqlen)
        float32, empty if not wanted; states as of :func:`scan_forward`.
    """
    plan = inputs.plan(1, EXACT_WIDTHS if inputs.is_exact else WIDTHS)
    out = torch.empty_like(inputs.u[0])
    shape = (plan.blocks, *inputs.u.shape[:3])
    maxima = inputs.A.new_empty(shape if scored else (0,))
    states = _new_states(inputs, save_states)
    carries = span_carries(inputs, plan)
    last = inputs.directions - 1
    for i in range(inputs.directions):
        _scan_direction(
            *(inputs, i, plan, out, maxima, states, carries),
            is_last=i == last,
        )
    return out, maxima.amax(0) if scored else maxima, states
