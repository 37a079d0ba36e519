r"""Measure the memory of a training step with and without ``with_cp``.

    python tools/analysis_tools/step_memory.py --out docs/results/memory.md
    python tools/analysis_tools/step_memory.py --side 512 --types MambaScope

One image through a backbone of tiny size, forward and backward, each setting
in a process of its own; on Linux CPUs only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch

from mmscope.benchmark.memory import memory_method, peak_growth
from mmscope.cli.arguments import tool_parser
from mmscope.registry import MODELS
from mmscope.whole_files import write_whole

MIB = 2**20
RUN = 'from mmscope.cli.step_memory import main; main()'
HEAD = """\
# Memory of a training step

`with_cp=True` keeps no activations inside blocks and computes them again for
the gradients, which come out equal to the last bit. Below is one image through
a backbone of tiny size (embed_dims 192, 24 blocks, feature maps of 4 levels),
forward and backward in float32, each setting in a process of its own, without
optimizer and heads ({method}, here of a step). Written by

    python tools/analysis_tools/step_memory.py --out docs/results/memory.md

| backbone | pixels | with_cp=False, MiB | with_cp=True, MiB | ratio |
|---|---:|---:|---:|---:|
"""
FOOT = """
CPU, torch {torch}. Blocks run twice in the forward direction with it, so a
step takes about a third more arithmetic.
"""


def measure(kind: str, side: int, with_cp: bool) -> int:
    """Run a step here: bytes beside the weights and their gradients.

    ``with_cp`` says whether blocks are computed again.
    """
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type=kind,
            img_size=side,
            out_type='featmap',
            out_indices=(5, 11, 17, 23),
            with_cp=with_cp,
        )
    ).train()
    device = torch.device('cpu')

    def step(image: torch.Tensor) -> None:
        sum(level.mean() for level in model(image)).backward()

    # Makes the gradients, and what is made once.
    step(torch.randn(1, 3, 64, 64))
    growth = peak_growth(partial(step, torch.randn(1, 3, side, side)), device)
    if growth is None:
        sys.exit(f'error: {memory_method(device)}')
    return growth


def measure_apart(kind: str, side: int, with_cp: bool) -> float:
    """Measure in a process of its own, in MiB."""
    child = [sys.executable, '-c', RUN, '--child', kind, side, int(with_cp)]
    output = subprocess.run(
        [*map(str, child)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return int(output.splitlines()[-1]) / MIB


def row(kind: str, side: int) -> str:
    """Measure both settings, and write them down."""
    without, again = (measure_apart(kind, side, cp) for cp in (False, True))
    return (
        f'| {kind} | {side} | {without:,.0f} | {again:,.0f} | '
        f'{again / without:.2f} |'
    )


def main(argv: list[str] | None = None) -> None:
    """Measure all, print the page and write it."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        '--types', nargs='+', default=['VisionMamba', 'MambaScope']
    )
    parser.add_argument('--side', type=int, default=1024, help='pixels')
    parser.add_argument('--out', type=Path, help='page to write')
    parser.add_argument('--child', nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        kind, side, with_cp = args.child
        print(measure(kind, int(side), with_cp == '1'))
        return
    rows = [row(kind, args.side) for kind in args.types]
    page = HEAD.format(method=memory_method(torch.device('cpu')))
    page += '\n'.join(rows) + '\n'
    page += FOOT.format(torch=torch.__version__)
    print(page)
    if args.out:
        write_whole(args.out, page)
