"""The small kernels under a tool that watches every access to memory."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from mmscope.benchmark.gpu import run_cases
from mmscope.benchmark.gpu.processes import run_group
from mmscope.benchmark.gpu.record import Skip
from mmscope.benchmark.gpu.scale import Scale
from mmscope.benchmark.gpu.steps import Step

ERROR_STATUS = 99
# Lines of its output that are kept.
KEPT = 60
# Tools of compute-sanitizer, and their time.
LIMIT_S = {'memcheck': 75.0, 'racecheck': 60.0}
# Libraries ask the driver for what may fail: that is no access to memory.
OPTIONS = {'memcheck': ('--report-api-errors', 'no')}


@dataclass
class Check:
    """What a tool of compute-sanitizer found; ``said`` are its last lines."""

    name: str
    ok: bool
    status: int
    said: list[str]


def sanitizer_steps(scale: Scale) -> Iterator[Step]:
    """List the tools."""
    # In a dry run there is no tool, and one time shows as much as two.
    for tool in [*LIMIT_S][: 1 if scale.dry_run else None]:
        yield Step(tool, partial(_check, tool, scale), LIMIT_S[tool])


def command(tool: str, scale: Scale) -> list[str]:
    """Return the command line of a check."""
    program = [
        *(sys.executable, '-m', run_cases.__name__, run_cases.WATCHED),
        *('--end-with', str(os.getpid())),
    ]
    if scale.dry_run:
        return [*scale.sanitizer, *program, '--dry-run']
    return [
        *scale.sanitizer,
        *('--tool', tool, '--error-exitcode', str(ERROR_STATUS)),
        # ptxas and the like are other people's programs.
        *('--target-processes', 'application-only'),
        *OPTIONS.get(tool, ()),
        *program,
    ]


def _check(tool: str, scale: Scale, left: float) -> list[Check]:
    if shutil.which(scale.sanitizer[0]) is None:
        raise Skip(f'{scale.sanitizer[0]} is not here')
    status, said = run_group(
        command(tool, scale),
        # Each tensor's memory is its own, so that an access behind it is one
        # to nobody's memory.
        {**os.environ, 'PYTORCH_NO_CUDA_MEMORY_CACHING': '1'},
        max(left, 1.0) * scale.patience,
    )
    return [verdict(tool, status, said)]


def verdict(tool: str, status: int, said: str) -> Check:
    """Tell from exit status and output whether a tool found errors.

    Raises:
        RuntimeError: If the tool itself could not work.
    """
    lines = said.splitlines()[-KEPT:]
    finished = any(line.startswith('small kernels: ') for line in lines)
    if not finished and status != ERROR_STATUS:
        raise RuntimeError(
            f'{tool} did not work, status {status}: ' + '\n'.join(lines)
        )
    return Check(tool, status == 0, status, lines if status else lines[-2:])
