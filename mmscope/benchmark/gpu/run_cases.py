"""Run cases by the Triton kernels, and throw the results away.

A program of its own: :mod:`warm_cache` starts several, :mod:`sanitizer` one
under a tool that watches memory.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from functools import partial

import torch

from mmscope.benchmark.gpu.cases import ParityCase
from mmscope.benchmark.gpu.inputs import draw_inputs
from mmscope.benchmark.gpu.parity import TRITON, require_triton, results
from mmscope.benchmark.gpu.processes import end_with
from mmscope.benchmark.gpu.record import Skip
from mmscope.benchmark.gpu.scale import Scale, full_scale, tiny_scale

PARITY, OPS, WATCHED = 'parity', 'ops', 'watched'
# What runs one piece of work, and returns how many tensors it computed.
Work = Callable[[], int]


def main(arguments: list[str] | None = None) -> None:
    """Run the cases that are asked for; the last line says how many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('which', nargs='+', choices=(PARITY, OPS, WATCHED))
    parser.add_argument('--first', type=int, default=0)
    parser.add_argument('--step', type=int, default=1)
    parser.add_argument('--dry-run', action='store_true')
    text = 'of a cache that is warmed: what fails will fail where it counts'
    parser.add_argument('--go-on', action='store_true', help=text)
    text = 'end when this process is gone'
    parser.add_argument('--end-with', type=int, metavar='PID', help=text)
    args = parser.parse_args(arguments)
    if args.end_with is not None:
        end_with(args.end_with)
    scale = tiny_scale() if args.dry_run else full_scale()
    try:
        require_triton(scale.device)
    except Skip as error:
        raise SystemExit(str(error)) from None
    works = [one for which in args.which for one in _works(which, scale)]
    # Triton's own errors have no other class in common.
    harmless = (Exception,) if args.go_on else ()
    count = 0
    for work in works[args.first :: args.step]:
        with contextlib.suppress(*harmless):
            count += work()
    print(f'small kernels: {count} tensors')


def _works(which: str, scale: Scale) -> list[Work]:
    if which == OPS:
        # A tool that watches memory need not wait for what this imports.
        from mmscope.benchmark.gpu.op_grid import kernel_runs

        return list(kernel_runs(scale))
    cases = getattr(scale, which)
    return [partial(_run_case, case, scale.device) for case in cases]


def _run_case(case: ParityCase, device: torch.device) -> int:
    return len(results(case, draw_inputs(case, device), TRITON))


if __name__ == '__main__':
    main()
