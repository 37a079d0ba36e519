"""What the selective scan's kernels read, and the constants they get."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from .launch import (
    MOST_REGISTERS,
    Plan,
    alignment,
    last_dense,
    plan_scan,
    with_equal_strides,
)

# Bytes of a word that holds two bfloat16.
WORD = 4


def _is_packable(B: Tensor, C: Tensor, d_state: int) -> bool:
    """Whether B and C can be read two values at a time, without a mask."""
    steps = (*B.stride()[:3], B.storage_offset(), C.storage_offset())
    return (
        B.dtype == C.dtype == torch.bfloat16
        and d_state > 1
        and triton.next_power_of_2(d_state) == d_state
        and all(step % 2 == 0 for step in steps)
    )


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
        self.directions, self.batch, self.seqlen, self.dim = u.shape
        self.d_state = A.shape[2]
        # (directions, d_state, dim): a row of channels a state.
        self.A = A.mT.contiguous()
        B, C = with_equal_strides(B, C)
        # Those of B and C, which may be read as words below.
        self.dtypes = B.dtype, C.dtype
        self.z = last_dense(z)
        self.align = alignment(B, C, self.z)
        self.packed = self.align >= WORD and _is_packable(B, C, self.d_state)
        if self.packed:
            B, C = B.view(torch.int32), C.view(torch.int32)
        self.B, self.C = B, C
        self.D = D if D is None else D.contiguous()
        self.bias = bias if bias is None else bias.contiguous()
        self.softplus, self.reverse = softplus, int(reverse)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Strides of B and C (direction, batch), then of z (batch)."""
        gate = 0 if self.z is None else self.z.stride(0)
        return (*self.B.stride()[:2], gate)

    @property
    def is_exact(self) -> bool:
        """Whether the dtype keeps more than bfloat16, so kernels must too."""
        return self.u.dtype != torch.bfloat16

    def flags(self, plan: Plan) -> dict[str, Any]:
        """Return the constants that every scan kernel is compiled for."""
        states = triton.next_power_of_2(self.d_state)
        fits = self.dim % plan.channels == 0 and states == self.d_state
        return dict(
            HAS_BIAS=self.bias is not None,
            SOFTPLUS=self.softplus,
            DIM=self.dim,
            D_STATE=self.d_state,
            BC_TOKEN=self.B.stride(2),
            Z_TOKEN=0 if self.z is None else self.z.stride(1),
            ALIGN=self.align,
            EXACT=self.is_exact,
            PACKED=self.packed,
            EVEN=fits,
            CHANNELS=plan.channels,
            STATES=states,
            num_warps=1,
            maxnreg=MOST_REGISTERS,
        )

    def plan(
        self,
        programs_per_sequence: int,
        widths: tuple[int, ...],
        cuts_first: bool = False,
    ) -> Plan:
        """Return the plan for this many programs a batch entry and block."""
        sequences = programs_per_sequence * self.batch
        return plan_scan(sequences, self.seqlen, self.dim, widths, cuts_first)
