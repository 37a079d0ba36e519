"""Compile every kernel that the comparisons need, in several processes.

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

MOST_PROCESSES = 8
LIMIT_S = 45.0
POLL_S = 0.2


def warm_steps(scale: Scale) -> Iterator[Step]:
    """List the one step: all processes at once."""
    yield Step('kernels of the comparisons', partial(_warm, scale), LIMIT_S)


def _warm(scale: Scale, left: float) -> list[dict[str, float]]:
    require_triton(scale.device)
    start, count = time.time(), number_of_processes(scale)
    end = start + left * scale.patience
    # One case is enough in a dry run.
    step = len(scale.parity) if scale.dry_run else count
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, '-m', run_cases.__name__, 'parity'),
                *('--first', str(first), '--step', str(step)),
                *(['--dry-run'] if scale.dry_run else []),
            ],
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


def number_of_processes(scale: Scale) -> int:
    """Return how many compile at once: half of the cores, one in a dry run."""
    if scale.dry_run:
        return 1
    return max(1, min(MOST_PROCESSES, (os.cpu_count() or 2) // 2))
