"""Run cases by the Triton kernels, and throw the results away.

A program of its own: :mod:`warm_cache` starts several, :mod:`sanitizer` one
under a tool that watches memory.
"""

from __future__ import annotations

import argparse
import contextlib

from mmscope.benchmark.gpu.inputs import draw_inputs
from mmscope.benchmark.gpu.parity import TRITON, require_triton, results
from mmscope.benchmark.gpu.record import Skip
from mmscope.benchmark.gpu.scale import full_scale, tiny_scale

# Of a case that fails when a cache is warmed: it fails again where it counts.
HARMLESS = (RuntimeError, ValueError)


def main(arguments: list[str] | None = None) -> None:
    """Run the cases that are asked for; the last line says how many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('which', choices=('watched', 'parity'))
    parser.add_argument('--first', type=int, default=0)
    parser.add_argument('--step', type=int, default=1)
    parser.add_argument('--dry-run', action='store_true')
    args = parser.parse_args(arguments)
    scale = tiny_scale() if args.dry_run else full_scale()
    try:
        require_triton(scale.device)
    except Skip as error:
        raise SystemExit(str(error)) from None
    harmless = HARMLESS if args.which == 'parity' else ()
    count = 0
    for case in getattr(scale, args.which)[args.first :: args.step]:
        with contextlib.suppress(*harmless):
            inputs = draw_inputs(case, scale.device)
            count += len(results(case, inputs, TRITON))
    print(f'small kernels: {count} tensors')


if __name__ == '__main__':
    main()
