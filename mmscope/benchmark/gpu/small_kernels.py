"""Every kernel once, forwards and backwards, on small and uneven shapes.

A program of its own, run by :mod:`sanitizer` under a tool that watches
memory.
"""

from __future__ import annotations

import argparse

import torch

from mmscope.benchmark.gpu.cases import CONV, MIXER, SCAN, ParityCase
from mmscope.benchmark.gpu.inputs import draw_inputs
from mmscope.benchmark.gpu.parity import TRITON, require_triton, results
from mmscope.benchmark.gpu.record import Skip

SHAPES = ((2, 19, 40, 16), (1, 300, 33, 16))
TINY_SHAPES = ((1, 2, 3, 2),)


def main(arguments: list[str] | None = None) -> None:
    """Run them all; the last line says how many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--tiny', action='store_true')
    args = parser.parse_args(arguments)
    device = torch.device(args.device)
    try:
        require_triton(device)
    except Skip as error:
        raise SystemExit(str(error)) from None
    count = 0
    for batch, seqlen, dim, d_state in TINY_SHAPES if args.tiny else SHAPES:
        for op in (SCAN, CONV, MIXER):
            for dtype in ('float32', 'bfloat16'):
                states = 4 if op == CONV else d_state
                case = ParityCase(
                    op, batch, seqlen, dim, states, dtype, scored=op == MIXER
                )
                found = results(case, draw_inputs(case, device), TRITON)
                count += len(found)
    print(f'small kernels: {count} tensors')


if __name__ == '__main__':
    main()
