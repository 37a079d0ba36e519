"""The compiled operators against what PyTorch alone offers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mmscope.benchmark.timing import Entry, Run, race
from mmscope.ops import causal_conv1d, selective_scan
from mmscope.ops.reference import (
    causal_conv1d_reference,
    selective_scan_reference,
)
from mmscope.testing import scan_inputs

# (batch, tokens, channels, states) of ViM-S at 224 x 224 pixels.
SHAPES = ((1, 197, 768, 16), (8, 197, 768, 16))
WIDTH = 4
CPU = torch.device('cpu')


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


def interleaved_medians(runs: dict[str, Run], repeats: int) -> dict:
    """Time rivals in turns.

    Args:
        runs (dict[str, Callable]): What to time, by name.
        repeats (int): Timed rounds.

    Returns:
        dict[str, float]: Median wall-clock milliseconds by name.
    """
    entries = {name: Entry(run) for name, run in runs.items()}
    timings = race(entries, repeats, CPU).timings
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


def rivals() -> dict[str, dict[str, Callable[..., Tensor]]]:
    """List what computes each operator, by operator and name."""
    return {
        'selective_scan': {
            'cpu': partial(selective_scan, delta_softplus=True, backend='cpu'),
            'reference': partial(
                selective_scan_reference, delta_softplus=True
            ),
            'discretised loop': discretised_scan,
        },
        'causal_conv1d': {
            'cpu': partial(causal_conv1d, backend='cpu'),
            'F.conv1d': causal_conv1d_reference,
        },
    }


def op_inputs(
    batch: int, seqlen: int, dim: int, d_state: int
) -> dict[str, dict[str, Tensor]]:
    """Draw the inputs of each operator for one shape."""
    scan = scan_inputs(batch, seqlen, dim, d_state)
    conv = dict(x=scan['u'], weight=torch.randn(dim, WIDTH), bias=scan['D'])
    return {'selective_scan': scan, 'causal_conv1d': conv}


def benchmark_ops(
    repeats: int, shapes: tuple[tuple[int, ...], ...] = SHAPES
) -> list[dict]:
    """Compare the compiled operators with what PyTorch alone offers.

    Args:
        repeats (int): Timed rounds of each comparison.
        shapes (tuple): (batch, tokens, channels, states) each. Defaults to
            those of ViM-S at 224 x 224 pixels.

    Returns:
        list[dict]: One row per operator, pass and shape: median milliseconds
        of each rival and their ratios to the compiled operator.
    """
    return [
        _compare(op, name, make, inputs, repeats)
        for shape in shapes
        for op, inputs in op_inputs(*shape).items()
        for name, make in (('forward', forward), ('training', training))
    ]


def _compare(
    op: str,
    name: str,
    make: Callable[..., Run],
    inputs: dict[str, Tensor],
    repeats: int,
) -> dict:
    runs = {k: make(f, inputs) for k, f in rivals()[op].items()}
    medians = interleaved_medians(runs, repeats)
    return dict(
        op=op,
        run=name,
        shape=tuple(inputs[next(iter(inputs))].shape),
        milliseconds=medians,
        ratios={
            k: v / medians['cpu'] for k, v in medians.items() if k != 'cpu'
        },
    )


def ops_table(rows: list[dict]) -> str:
    """Format one line per row.

    Args:
        rows (list[dict]): From :func:`benchmark_ops`.

    Returns:
        str: Milliseconds of each rival, and its ratio to the compiled
        operator.
    """
    lines = ['medians in milliseconds; in brackets the ratio to cpu']
    for row in rows:
        times = '  '.join(
            f'{name} {value:.2f}'
            + (f' ({row["ratios"][name]:.1f}x)' if name != 'cpu' else '')
            for name, value in row['milliseconds'].items()
        )
        lines.append(f'{row["op"]:<15}{row["run"]:<9}{row["shape"]}  {times}')
    return '\n'.join(lines)
