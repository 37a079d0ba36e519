"""The compiled operators against what PyTorch alone offers.

The floor of an operator that is limited by memory is a copy of the tensors
that it has to read and to write.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mmscope.evaluation.interleaved_timing import Entry, Run, time_interleaved
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
    Our own reference forms them token by token, which is faster on CPUs.

    Args:
        u (Tensor): Input sequence, (batch, seqlen, dim).
        delta (Tensor): Step sizes before softplus, (batch, seqlen, dim).
        A (Tensor): Decay rates, (dim, d_state).
        B (Tensor): Input maps, (batch, seqlen, d_state).
        C (Tensor): Output maps, (batch, seqlen, d_state).
        D (Tensor): Skip weights, (dim,).
        z (Tensor): Gate, (batch, seqlen, dim).
        delta_bias (Tensor): Bias of the step sizes, (dim,).

    Returns:
        Tensor: Output, (batch, seqlen, dim).
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


def interleaved_medians(
    runs: dict[str, Run], repeats: int, device: torch.device
) -> dict:
    """Time rivals in turns.

    Args:
        runs (dict[str, Callable]): What to time, by name.
        repeats (int): Timed rounds.
        device (torch.device): Where they work.

    Returns:
        dict[str, float]: Median wall-clock milliseconds by name.
    """
    entries = {name: Entry(run) for name, run in runs.items()}
    timings = time_interleaved(entries, repeats, device).timings
    return {name: 1e3 * timing.median for name, timing in timings.items()}


def forward(function: Callable[..., Tensor], inputs: dict[str, Tensor]) -> Run:
    """Return a run of the forward alone."""

    def run() -> None:
        with torch.no_grad():
            function(**inputs)

    return run


def training(
    function: Callable[..., Tensor], inputs: dict[str, Tensor]
) -> Run:
    """Return a run of the forward and the backward to every input."""
    leaves = {name: x.clone().requires_grad_() for name, x in inputs.items()}

    def run() -> None:
        out = function(**leaves)
        torch.autograd.grad(out, list(leaves.values()), torch.ones_like(out))

    return run


def copying(inputs: dict[str, Tensor]) -> Run:
    """Return a run that moves as many bytes as an operator has to.

    Args:
        inputs (dict[str, Tensor]): Those of the operator, the first as large
            as its output; smaller ones are left out.

    Returns:
        Callable: Copies, each of which reads and writes one tensor.
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
) -> dict[str, dict[str, Callable[..., Tensor]]]:
    """List what computes each operator, by operator and name.

    Args:
        dim (int): Channels inside a mixer.
        d_state (int): States of a channel.
        device (torch.device): Where they work.

    Returns:
        dict[str, dict[str, Callable]]: Compiled backends first.
    """
    names = [x for x in available_backends(device) if x != 'reference']
    scan = partial(selective_scan, delta_softplus=True)

    def mixer(backend: str = 'auto') -> Callable[..., Tensor]:
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
) -> dict[str, dict[str, Tensor]]:
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
) -> list[dict]:
    """Compare the compiled operators with what PyTorch alone offers.

    Args:
        repeats (int): Timed rounds of each comparison.
        shapes (tuple): (batch, tokens, channels, states) each. Defaults to
            those of ViM-S at 224 x 224 pixels.
        device (torch.device): Where they work. Defaults to the CPU.

    Returns:
        list[dict]: One row per operator, pass and shape: median milliseconds
        of each rival and their ratios to the first, a compiled operator.
    """
    rows = []
    for shape in shapes:
        inputs = op_inputs(*shape, device)
        for op, functions in rivals(*shape[2:], device).items():
            for name, make in (('forward', forward), ('training', training)):
                runs = {k: make(f, inputs[op]) for k, f in functions.items()}
                if name == 'forward' and op != MIXER:
                    runs[COPY] = copying(inputs[op])
                medians = interleaved_medians(runs, repeats, device)
                rows.append(_row(op, name, inputs[op], medians))
    return rows


def _row(
    op: str, name: str, inputs: dict[str, Tensor], medians: dict[str, float]
) -> dict:
    (first, base), *others = medians.items()
    return dict(
        op=op,
        run=name,
        shape=tuple(inputs[next(iter(inputs))].shape),
        milliseconds=medians,
        first=first,
        ratios={rival: value / base for rival, value in others},
    )


def ops_table(rows: list[dict]) -> str:
    """Format one line per row.

    Args:
        rows (list[dict]): From :func:`benchmark_ops`.

    Returns:
        str: Milliseconds of each rival, and its ratio to the compiled
        operator.
    """
    lines = ['medians in milliseconds; in brackets the ratio to the first']
    for row in rows:
        times = '  '.join(
            f'{name} {value:.2f}'
            + (
                f' ({row["ratios"][name]:.1f}x)'
                if name in row['ratios']
                else ''
            )
            for name, value in row['milliseconds'].items()
        )
        lines.append(f'{row["op"]:<15}{row["run"]:<9}{row["shape"]}  {times}')
    return '\n'.join(lines)
