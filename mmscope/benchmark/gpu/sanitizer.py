"""The small kernels under a tool that watches every access to memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from mmscope.benchmark.gpu import run_cases
from mmscope.benchmark.gpu.record import Skip
from mmscope.benchmark.gpu.scale import Scale
from mmscope.benchmark.gpu.steps import Step

ERROR_STATUS = 99
# Lines of its output that are kept.
KEPT = 60
# Tools of compute-sanitizer, and their time.
LIMIT_S = {'memcheck': 75.0, 'racecheck': 60.0}


@dataclass
class Check:
    """What a tool of compute-sanitizer found; ``said`` are its last lines."""

    tool: str
    ok: bool
    status: int
    said: list[str]

    @property
    def name(self) -> str:
        """That of the tool."""
        return self.tool


def sanitizer_steps(scale: Scale) -> Iterator[Step]:
    """List the tools."""
    # In a dry run there is no tool, and one time shows as much as two.
    for tool in [*LIMIT_S][: 1 if scale.dry_run else None]:
        yield Step(tool, partial(_check, tool, scale), LIMIT_S[tool])


def command(tool: str, scale: Scale) -> list[str]:
    """Return the command line of a check."""
    program = [sys.executable, '-m', run_cases.__name__, 'watched']
    if scale.dry_run:
        return [*scale.sanitizer, *program, '--dry-run']
    return [
        *scale.sanitizer,
        *('--tool', tool, '--error-exitcode', str(ERROR_STATUS)),
        # ptxas and the like are other people's programs.
        *('--target-processes', 'application-only'),
        *program,
    ]


def _check(tool: str, scale: Scale, left: float) -> list[Check]:
    if shutil.which(scale.sanitizer[0]) is None:
        raise Skip(f'{scale.sanitizer[0]} is not here')
    try:
        done = subprocess.run(
            command(tool, scale),
            # Each tensor's memory is its own, so that an access behind it is
            # one to nobody's memory.
            env={**os.environ, 'PYTORCH_NO_CUDA_MEMORY_CACHING': '1'},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=max(left, 1.0) * scale.patience,
        )
    except subprocess.TimeoutExpired as error:
        said = error.stdout or b''
        said = said.decode() if isinstance(said, bytes) else said
        raise TimeoutError(
            f'not done in {left:.0f} s: {said[-500:]}'
        ) from None
    return [verdict(tool, done.returncode, done.stdout)]


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
