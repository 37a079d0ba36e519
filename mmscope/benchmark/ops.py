"""The compiled operators against what PyTorch alone offers.

The floor of an operator that is limited by memory is a copy of the tensors
that it has to read and to write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from mmscope.evaluation.interleaved_timing import Entry, Run, time_interleaved
from mmscope.evaluation.tables import Column, format_table
from mmscope.models.layers import BidirectionalMamba
from mmscope.ops import (
    available_backends,
    causal_conv1d,
    composed,
    selective_scan,
)
from mmscope.ops.library import CONV_BACKENDS
from mmscope.ops.reference import (
    causal_conv1d_reference,
    selective_scan_reference,
)
from mmscope.testing import scan_inputs

# (batch, tokens, channels, states) of ViM-S at 224 x 224 pixels.
SHAPES = ((1, 197, 768, 16), (8, 197, 768, 16))
WIDTH = 4
CPU = torch.device('cpu')
SCAN, CONV, MIXER = 'selective_scan', 'causal_conv1d', 'mixer'
COPY = 'copy of its bytes'
Function = Callable[..., Tensor]
Inputs = dict[str, Tensor]
COLUMNS = (
    Column('op', 'operator'),
    Column('run', 'pass'),
    Column('shape', 'shape'),
    Column('rival', 'by'),
    Column('milliseconds', 'median, ms', '.2f'),
    Column('ratio', 'over the first', '.1f'),
)


@dataclass
class OpTime:
    """What a rival takes for an operator's 'forward' or 'training'.

    ``shape`` is that of its first input, ``ratio`` the time over that of the
    ``first``, a compiled operator.
    """

    op: str
    run: str
    shape: str
    rival: str
    milliseconds: float
    first: str
    ratio: float


def discretised_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    delta_bias: Tensor,
) -> Tensor:
    """Run the loop as it is usually written: discretise first, then step.

    Mamba (arXiv:2312.00752), Algorithm 2: the discretised parameters of all
    tokens, (batch, seqlen, dim, d_state), are formed before the recurrence.
    Our own reference, whose arguments these are, forms them token by token,
    which is faster on CPUs.
    """
    delta = torch.nn.functional.softplus(delta + delta_bias)
    decay = torch.exp(torch.einsum('bld,dn->bldn', delta, A))
    drive = torch.einsum('bld,bln,bld->bldn', delta, B, u)
    state = torch.zeros_like(drive[:, 0])
    outputs = []
    for t in range(u.shape[1]):
        state = decay[:, t] * state + drive[:, t]
        outputs.append(torch.einsum('bdn,bn->bd', state, C[:, t]))
    y = torch.stack(outputs, dim=1) + u * D
    return y * torch.nn.functional.silu(z)


def forward(function: Function, inputs: Inputs) -> Run:
    """Return a run of the forward alone."""

    def run() -> None:
        with torch.no_grad():
            function(**inputs)

    return run


def training(function: Function, inputs: Inputs) -> Run:
    """Return a run of the forward and the backward to every input."""
    leaves = {name: x.clone().requires_grad_() for name, x in inputs.items()}

    def run() -> None:
        out = function(**leaves)
        torch.autograd.grad(out, list(leaves.values()), torch.ones_like(out))

    return run


PASSES = {'forward': forward, 'training': training}


def copying(inputs: Inputs) -> Run:
    """Return a run that moves as many bytes as an operator has to.

    Its first input is as large as its output; smaller ones are left out.
    """
    first = next(iter(inputs.values()))
    large = [x for x in inputs.values() if x.shape == first.shape]
    sources = large[: (len(large) + 1) // 2]
    targets = [torch.empty_like(x) for x in sources]

    def run() -> None:
        for source, target in zip(sources, targets, strict=True):
            target.copy_(source)

    return run


def rivals(
    dim: int, d_state: int, device: torch.device
) -> dict[str, dict[str, Function]]:
    """List what computes each operator, by both names; compiled ones first."""
    names = [x for x in available_backends(device) if x != 'reference']
    scan = partial(selective_scan, delta_softplus=True)

    def mixer(backend: str = 'auto') -> Function:
        layer = BidirectionalMamba(
            dim // 2, 1, d_state, scan_backend=backend
        ).to(device)
        return lambda x: layer(x).tokens

    return {
        SCAN: {
            **{name: partial(scan, backend=name) for name in names},
            'reference': partial(
                selective_scan_reference, delta_softplus=True
            ),
            'discretised loop': discretised_scan,
        },
        CONV: {
            **{
                name: partial(causal_conv1d, backend=name)
                for name in names
                if name in CONV_BACKENDS
            },
            'F.conv1d': causal_conv1d_reference,
        },
        MIXER: {
            **{name: mixer(name) for name in names},
            'in parts': composed()(mixer()),
        },
    }


def op_inputs(
    batch: int, seqlen: int, dim: int, d_state: int, device: torch.device
) -> dict[str, Inputs]:
    """Draw the inputs of each operator for one shape."""
    scan = {
        name: x.to(device)
        for name, x in scan_inputs(batch, seqlen, dim, d_state).items()
    }
    weight = torch.randn(dim, WIDTH, device=device)
    conv = dict(x=scan['u'], weight=weight, bias=scan['D'])
    tokens = torch.randn(batch, seqlen, dim // 2, device=device)
    return {SCAN: scan, CONV: conv, MIXER: dict(x=tokens)}


def benchmark_ops(
    repeats: int,
    shapes: tuple[tuple[int, ...], ...] = SHAPES,
    device: torch.device = CPU,
) -> list[OpTime]:
    """Compare the compiled operators with what PyTorch alone offers.

    Args:
        repeats (int): Timed rounds of each comparison.
        shapes (tuple): (batch, tokens, channels, states) each. Defaults to
            those of ViM-S at 224 x 224 pixels.
        device (torch.device): Where they work. Defaults to the CPU.
    """
    rows = []
    for shape in shapes:
        inputs = op_inputs(*shape, device)
        for op, functions in rivals(*shape[2:], device).items():
            for name, make in PASSES.items():
                runs = {k: make(f, inputs[op]) for k, f in functions.items()}
                if name == 'forward' and op != MIXER:
                    runs[COPY] = copying(inputs[op])
                rows += _race(op, name, inputs[op], runs, repeats, device)
    return rows


def _race(
    op: str,
    name: str,
    inputs: Inputs,
    runs: dict[str, Run],
    repeats: int,
    device: torch.device,
) -> list[OpTime]:
    entries = {rival: Entry(run) for rival, run in runs.items()}
    timings = time_interleaved(entries, repeats, device).timings
    first = next(iter(runs))
    shape = ' x '.join(map(str, next(iter(inputs.values())).shape))
    base = timings[first].median
    return [
        OpTime(op, name, shape, rival, 1e3 * x.median, first, x.median / base)
        for rival, x in timings.items()
    ]


def ops_section(rows: list[OpTime]) -> str:
    """Format median milliseconds, and ratios to the compiled operator."""
    return format_table(pd.DataFrame(rows), COLUMNS)
