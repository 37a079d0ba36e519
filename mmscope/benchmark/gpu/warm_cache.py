"""Compile every kernel of parts that run kernels alone, in several processes.

Triton compiles one kernel at a time in a process, and keeps what it compiled
on disk: on a machine with many cores others find it there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

from mmscope.benchmark.gpu import run_cases
from mmscope.benchmark.gpu.parity import require_triton
from mmscope.benchmark.gpu.scale import Scale
from mmscope.benchmark.gpu.steps import Step

MOST_PROCESSES = 14
LIMIT_S = 60.0
POLL_S = 0.2


def warm_steps(scale: Scale) -> Iterator[Step]:
    """List the one step: all processes at once."""
    yield Step(
        'kernels of cases and operators', partial(_warm, scale), LIMIT_S
    )


def _warm(scale: Scale, left: float) -> list[dict[str, float]]:
    require_triton(scale.device)
    start, count = time.time(), number_of_processes(scale)
    end = start + left * scale.patience
    processes = [
        subprocess.Popen(
            command(first, count, scale),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for first in range(count)
    ]
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


def command(first: int, count: int, scale: Scale) -> list[str]:
    """Return the command line of one of so many processes."""
    # A few of all are enough in a dry run.
    step = len(scale.parity) if scale.dry_run else count
    return [
        # Those that many parts need come first.
        *(sys.executable, '-m', run_cases.__name__),
        *(run_cases.PARITY, run_cases.OPS, run_cases.WATCHED),
        *('--first', str(first), '--step', str(step), '--go-on'),
        *('--end-with', str(os.getpid())),
        *(['--dry-run'] if scale.dry_run else []),
    ]


def number_of_processes(scale: Scale) -> int:
    """Return how many compile at once: two cores stay, one in a dry run."""
    if scale.dry_run:
        return 1
    return max(1, min(MOST_PROCESSES, (os.cpu_count() or 1) - 2))
