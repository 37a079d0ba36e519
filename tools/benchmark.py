"""Measure mmscope: ``python tools/benchmark.py --ops [--json]``.

The rivals are timed in turns, so that a change of the machine's load hits
all of them, and the median is reported after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from mmscope import ops
from mmscope.ops.reference import (
    causal_conv1d_reference,
    selective_scan_reference,
)
from mmscope.testing import scan_inputs

# (batch, tokens, channels, states) of ViM-S at 224 x 224 pixels.
SHAPES = ((1, 197, 768, 16), (8, 197, 768, 16))
WIDTH = 4
Run = Callable[[], object]


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
    runs: dict[str, Run], repeats: int, warm_up: int = 2
) -> dict[str, float]:
    """Time rivals in turns.

    Args:
        runs (dict[str, Callable]): What to time, by name.
        repeats (int): Timed rounds.
        warm_up (int): Rounds before them. Defaults to 2.

    Returns:
        dict[str, float]: Median wall-clock milliseconds by name.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(warm_up + repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat >= warm_up:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: median(values) for name, values in times.items()}


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


def benchmark_ops(repeats: int) -> list[dict]:
    """Compare the compiled operators with what PyTorch alone offers.

    Args:
        repeats (int): Timed rounds of each comparison.

    Returns:
        list[dict]: One row per operator, pass and shape: median milliseconds
        of each rival and their ratios to the compiled operator.
    """
    scans = {
        'cpu': partial(ops.selective_scan, delta_softplus=True, backend='cpu'),
        'reference': partial(selective_scan_reference, delta_softplus=True),
        'discretised loop': discretised_scan,
    }
    convs = {
        'cpu': partial(ops.causal_conv1d, backend='cpu'),
        'F.conv1d': causal_conv1d_reference,
    }
    rows = []
    for batch, seqlen, dim, d_state in SHAPES:
        scan = scan_inputs(batch, seqlen, dim, d_state)
        conv = dict(
            x=scan['u'], weight=torch.randn(dim, WIDTH), bias=scan['D']
        )
        for op, rivals, inputs in (
            ('selective_scan', scans, scan),
            ('causal_conv1d', convs, conv),
        ):
            for name, make in (('forward', forward), ('training', training)):
                runs = {k: make(f, inputs) for k, f in rivals.items()}
                medians = interleaved_medians(runs, repeats)
                rows.append(
                    dict(
                        op=op,
                        run=name,
                        shape=tuple(inputs[next(iter(inputs))].shape),
                        milliseconds=medians,
                        ratios={
                            k: v / medians['cpu']
                            for k, v in medians.items()
                            if k != 'cpu'
                        },
                    )
                )
    return rows


def environment() -> dict:
    """Return what a measurement must name: machine, versions, commit."""
    commit = subprocess.run(
        ['git', 'describe', '--always', '--dirty'],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return dict(
        machine=_processor(),
        instruction_set=ops.cpu_isa(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        commit=commit or 'unknown',
    )


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    names = [x.split(':', 1)[1].strip() for x in lines if 'model name' in x]
    return names[0] if names else platform.processor() or platform.machine()


def print_table(setting: dict, rows: list[dict]) -> None:
    """Print the setting and one line per row."""
    print(', '.join(f'{key}: {value}' for key, value in setting.items()))
    print('medians in milliseconds; in brackets the ratio to cpu')
    for row in rows:
        times = '  '.join(
            f'{name} {value:.2f}'
            + (f' ({row["ratios"][name]:.1f}x)' if name != 'cpu' else '')
            for name, value in row['milliseconds'].items()
        )
        print(f'{row["op"]:<15}{row["run"]:<9}{row["shape"]}  {times}')


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description='Measure mmscope.')
    parser.add_argument(
        '--ops',
        action='store_true',
        help='compare the compiled scan and convolution with plain PyTorch',
    )
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument(
        '--repeats', type=int, default=9, help='timed rounds (default: 9)'
    )
    parser.add_argument(
        '--threads', type=int, help='threads of torch (default: its own)'
    )
    args = parser.parse_args(arguments)
    if not args.ops:
        parser.error('nothing to measure; choose --ops')
    if args.repeats < 1:
        parser.error(f'--repeats must be at least 1, got {args.repeats}')
    return args


def main() -> None:
    """Run what the command line asks for."""
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if reason := ops.why_unavailable('cpu', 'cpu'):
        raise SystemExit(f'the cpu backend cannot run: {reason}')
    setting = environment()
    rows = benchmark_ops(args.repeats)
    if args.json:
        print(json.dumps(dict(setting=setting, ops=rows), indent=2))
    else:
        print_table(setting, rows)


if __name__ == '__main__':
    main()
