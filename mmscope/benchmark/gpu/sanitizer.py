"""The small kernels under a tool that watches every access to memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from mmscope.benchmark.gpu import small_kernels
from mmscope.benchmark.gpu.record import Skip
from mmscope.benchmark.gpu.scale import Scale
from mmscope.benchmark.gpu.steps import Step

TOOLS = ('memcheck', 'racecheck')
ERROR_STATUS = 99
# Lines of its output that are kept.
KEPT = 60
LIMIT_S = {'memcheck': 75.0, 'racecheck': 60.0}


def sanitizer_steps(scale: Scale) -> Iterator[Step]:
    """List the tools.

    Args:
        scale (Scale): Device and the command.

    Yields:
        Step: One a tool.
    """
    # In a dry run there is no tool, and one time shows as much as two.
    for tool in TOOLS[: 1 if scale.dry_run else None]:
        yield Step(tool, partial(_check, tool, scale), LIMIT_S[tool])


def command(tool: str, scale: Scale) -> list[str]:
    """Return the command line of a check.

    Args:
        tool (str): Of compute-sanitizer.
        scale (Scale): Device and the command in front.

    Returns:
        list[str]: Arguments.
    """
    options = []
    if not scale.dry_run:
        options = [
            *('--tool', tool, '--error-exitcode', str(ERROR_STATUS)),
            # ptxas and the like are other people's programs.
            *('--target-processes', 'application-only'),
        ]
    tiny = ['--tiny'] if scale.dry_run else []
    program = [sys.executable, '-m', small_kernels.__name__]
    device = ['--device', str(scale.device)]
    return [*scale.sanitizer, *options, *program, *device, *tiny]


def _check(tool: str, scale: Scale, left: float) -> list[dict]:
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


def verdict(tool: str, status: int, said: str) -> dict:
    """Tell whether a tool found errors.

    Args:
        tool (str): Of compute-sanitizer.
        status (int): Exit status.
        said (str): All of the output.

    Returns:
        dict: ``tool``, ``ok``, ``status``, ``said``: the last lines.

    Raises:
        RuntimeError: If the tool itself could not work.
    """
    lines = said.splitlines()[-KEPT:]
    finished = any(line.startswith('small kernels: ') for line in lines)
    if not finished and status != ERROR_STATUS:
        raise RuntimeError(
            f'{tool} did not work, status {status}: ' + '\n'.join(lines)
        )
    return {
        'tool': tool,
        'ok': status == 0,
        'status': status,
        'said': lines if status else lines[-2:],
    }
