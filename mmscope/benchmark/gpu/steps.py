"""Steps of a run, and doing them one after another within their time."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mmscope.benchmark.gpu import graphs
from mmscope.benchmark.gpu.record import (
    DONE,
    FAILED,
    OUT_OF_TIME,
    SKIPPED,
    Outcome,
    Record,
    Skip,
)
from mmscope.benchmark.gpu.scale import Scale
from mmscope.benchmark.memory import out_of_memory

# A kernel that read or wrote where it must not leaves the whole process
# without a GPU, and every later call fails with the same words.
FATAL = (
    'illegal memory access',
    'device-side assert',
    'misaligned address',
    'unspecified launch failure',
    'illegal instruction',
    'illegal address',
    'cublas_status_execution_failed',
    'launch timed out',
    'device not ready',
    # What a failed recording leaves behind.
    'outside graph capture',
)
# Seconds that a step may take beyond its part's time before it is killed.
GRACE_S = 15.0
# A new process after each lost recording takes its seconds.
MOST_LOST = 3
# Below this it makes no sense to begin.
LEAST_S = 1.0


class Poisoned(RuntimeError):
    """This process can do no more on the GPU: a new one has to go on."""


@dataclass(frozen=True)
class Step:
    """One thing to find out, given up after ``limit_s`` seconds.

    ``run`` gets the seconds that are left for its part, and returns what was
    measured; it may raise :class:`Skip`.
    """

    name: str
    run: Callable[[float], list[Any]]
    limit_s: float = 60.0


@dataclass(frozen=True)
class Part:
    """Steps that share a budget of seconds; ``name`` is a key of the record.

    ``steps`` is asked in the worker; ``title`` says what it finds out.
    """

    name: str
    title: str
    budget_s: float
    steps: Callable[[Scale], Iterable[Step]]


def is_fatal(error: BaseException) -> bool:
    """Tell an error after which the GPU is lost to this process."""
    text = str(error).lower()
    return any(words in text for words in FATAL)


def run_parts(
    parts: Sequence[Part],
    scale: Scale,
    record: Record,
    deadline: float,
    tell: Callable[[str], None] = lambda text: None,
) -> None:
    """Do every step that has no outcome yet, until the deadline.

    That is in seconds since the epoch; ``tell`` gets a line an outcome.

    Raises:
        Poisoned: If a step, which is recorded, cost this process its GPU or
            a recording.
    """
    for part in parts:
        budget = part.budget_s * scale.patience
        try:
            steps = list(part.steps(scale))
        except Exception as error:
            # Such as a host that is there and cannot be imported.
            steps = [Step('prepare', _raising(error))]
        for step in steps:
            if record.find(part.name, step.name) is not None:
                continue
            left = min(
                budget - record.spent(part.name), deadline - time.time()
            )
            run_step(part.name, step, left, record, tell)
            _free(scale.device)


def _raising(error: Exception) -> Callable[[float], list[Any]]:
    def run(left: float) -> list[Any]:
        raise error

    return run


def run_step(
    part: str,
    step: Step,
    left: float,
    record: Record,
    tell: Callable[[str], None] = lambda text: None,
) -> None:
    """Do one step in the seconds left for it, and record how it ended."""
    if left < LEAST_S:
        reason = 'the time of its part was spent by the steps before it'
        record.put(Outcome(part, step.name, OUT_OF_TIME, 0.0, [], reason))
        tell(f'{part}: {step.name}: {OUT_OF_TIME}')
        return
    name = f'{part}, {step.name}'
    graphs.process.forbidden = _why_no_graphs(name, record)
    record.begin(part, step.name, min(step.limit_s, left + GRACE_S))
    start = time.perf_counter()
    rows, state, reason, fatal = [], DONE, '', False
    try:
        rows = step.run(min(left, step.limit_s))
    except Skip as error:
        state, reason = SKIPPED, str(error)
    except Exception as error:
        state, reason, fatal = FAILED, _describe(error), is_fatal(error)
    seconds = time.perf_counter() - start
    why = f': {reason.splitlines()[-1]}' if reason else ''
    tell(f'{part}: {step.name}: {state} in {seconds:.1f} s{why}')
    if graphs.process.lost and name not in record.lost:
        record.lost.append(name)
        if state == FAILED:
            # Without graphs it may do.
            record.forget()
            raise Poisoned(f'{name}{why}')
    record.put(Outcome(part, step.name, state, seconds, rows, reason))
    if fatal or graphs.process.lost:
        raise Poisoned(f'{name}{why or ": a recording failed"}')


def _why_no_graphs(name: str, record: Record) -> str:
    if name in record.lost:
        return 'not recorded: a recording failed the first time'
    if len(record.lost) >= MOST_LOST:
        return f'not recorded: {len(record.lost)} recordings failed'
    return ''


def _describe(error: Exception) -> str:
    said = ''.join(traceback.format_exception(error)).strip()
    return out_of_memory(error) or said


def _free(device: torch.device) -> None:
    """Give memory back, which is a first call after a kernel that went wrong.

    Raises:
        Poisoned: If that cost this process its GPU.
    """
    gc.collect()
    if device.type != 'cuda':
        return
    try:
        torch.cuda.empty_cache()
    except RuntimeError as error:
        raise Poisoned(str(error)) from error
