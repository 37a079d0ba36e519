"""Compile every kernel that the comparisons need, in several processes.

Triton compiles one kernel at a time in a process, and keeps what it compiled
on disk: on a machine with many cores others find it there. A program of its
own; its results are thrown away.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

from mmscope.benchmark.gpu.inputs import draw_inputs
from mmscope.benchmark.gpu.parity import TRITON, require_triton, results
from mmscope.benchmark.gpu.scale import Scale, full_scale, tiny_scale
from mmscope.benchmark.gpu.steps import Step

MOST_PROCESSES = 8
LIMIT_S = 45.0
POLL_S = 0.2


def warm_steps(scale: Scale) -> Iterator[Step]:
    """List the one step.

    Args:
        scale (Scale): Cases and device.

    Yields:
        Step: All processes at once.
    """
    yield Step('kernels of the comparisons', partial(_warm, scale), LIMIT_S)


def _warm(scale: Scale, left: float) -> list[dict]:
    require_triton(scale.device)
    start, count = time.time(), number_of_processes(scale)
    tiny = ['--dry-run'] if scale.dry_run else []
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, '-m', __name__),
                *('--first', str(first), '--step', str(count)),
                *tiny,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for first in range(count)
    ]
    end = start + left * scale.patience
    try:
        while time.time() < end and any(p.poll() is None for p in processes):
            time.sleep(POLL_S)
    finally:
        statuses = [process.poll() for process in processes]
        for process in processes:
            process.kill()
            process.wait()
    return [
        {
            'processes': count,
            'finished': sum(status == 0 for status in statuses),
            'seconds': time.time() - start,
        }
    ]


def number_of_processes(scale: Scale) -> int:
    """Return how many compile at once: half of the cores, one in a dry run."""
    if scale.dry_run:
        return 1
    return max(1, min(MOST_PROCESSES, (os.cpu_count() or 2) // 2))


def main(arguments: list[str] | None = None) -> None:
    """Run some of the cases; what fails will fail again where it counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--first', type=int, required=True)
    parser.add_argument('--step', type=int, required=True)
    parser.add_argument('--dry-run', action='store_true')
    args = parser.parse_args(arguments)
    scale = tiny_scale() if args.dry_run else full_scale()
    cases = scale.parity[:1] if args.dry_run else scale.parity
    for case in cases[args.first :: args.step]:
        with contextlib.suppress(RuntimeError, ValueError):
            results(case, draw_inputs(case, scale.device), TRITON)


if __name__ == '__main__':
    main()
