"""Keeps the time: starts workers, ends those that hang, goes on after them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmscope.benchmark.gpu import worker
from mmscope.benchmark.gpu.record import (
    DONE,
    FAILED,
    OUT_OF_TIME,
    SKIPPED,
    Outcome,
    Record,
    set_aside,
)
from mmscope.benchmark.setting import ROOT, Setting, is_same_setting

# All of it beside this process's own imports: with them eight minutes.
TOTAL_S = 465.0
# A worker that did not begin a step by then never will.
START_S = 90.0
POLL_S = 0.2
# File descriptor to which a worker prints, whatever its libraries say.
STDERR = 2
# More deaths than this are no accident.
MAX_WORKERS = 40


@dataclass(frozen=True)
class Order:
    """What is to be run: which ``parts``, into which JSON file.

    ``dry_run`` is tiny, on the CPU; ``again`` forgets what is in the file.
    """

    path: Path
    setting: Setting
    parts: Sequence[str]
    dry_run: bool = False
    again: bool = False
    total_s: float = TOTAL_S


def open_record(order: Order) -> Record:
    """Open the file of results; keep what belongs to this run.

    That is what was done or skipped before on the same card, commit and
    torch; the rest will be run again. Results of others get another name.
    """
    record = Record.read(order.path)
    if order.again or not is_same_setting(record.setting, order.setting):
        if record.outcomes:
            set_aside(record.path, record.setting)
        record = Record(record.path)
    record.setting = order.setting
    record.keep((DONE,) if not order.dry_run else (DONE, SKIPPED))
    record.write()
    return record


def run(order: Order, tell: Callable[[str], None]) -> Record:
    """Run all parts within their time, whatever happens to the workers."""
    start = time.time()
    before = open_record(order).spent_s
    deadline = start + order.total_s
    for _ in range(MAX_WORKERS):
        ended = _one_worker(order, deadline, tell)
        record = Record.read(order.path)
        record.spent_s = before + time.time() - start
        record.write()
        if ended or time.time() >= deadline:
            break
    return record


def environment(order: Order) -> dict[str, str]:
    """Return the environment of a worker."""
    path = os.pathsep.join(
        filter(None, (str(ROOT), os.environ.get('PYTHONPATH')))
    )
    found = {
        **os.environ,
        'PYTHONPATH': path,
        'PYTHONUNBUFFERED': '1',
        # cuBLAS wants it where sums have to be deterministic.
        'CUBLAS_WORKSPACE_CONFIG': ':4096:8',
    }
    if order.dry_run:
        found['TRITON_INTERPRET'] = '1'
        found['CUDA_VISIBLE_DEVICES'] = ''
    return found


def command(order: Order, deadline: float) -> list[str]:
    """Return the command line of a worker."""
    return [
        *(sys.executable, '-m', worker.__name__, str(order.path)),
        *('--end-with', str(os.getpid()), '--deadline', str(deadline)),
        *('--parts', *order.parts),
        *(['--dry-run'] if order.dry_run else []),
    ]


def _one_worker(
    order: Order, deadline: float, tell: Callable[[str], None]
) -> bool:
    """Run one worker to its end; whether all is done."""
    found = len(Record.read(order.path).outcomes)
    process = subprocess.Popen(
        command(order, deadline),
        env=environment(order),
        stdout=STDERR,
        # With children of its own: what ends it ends them.
        start_new_session=True,
    )
    began = time.time()
    try:
        while process.poll() is None:
            time.sleep(POLL_S)
            if reason := _why_end(order, began, deadline):
                tell(f'ending a worker: {reason}')
                break
    finally:
        # Also where Ctrl-C or a time limit ends this process.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
    return _note_end(order, status, found, tell)


def _why_end(order: Order, began: float, deadline: float) -> str:
    """Say why a worker has to be ended, '' if it may go on."""
    now = time.time()
    running = Record.read(order.path).running
    patience = 20.0 if order.dry_run else 1.0
    if now > deadline + POLL_S:
        return 'the time of the whole run is spent'
    if running is None:
        idle = now - max(began, order.path.stat().st_mtime)
        if idle > START_S * patience:
            return 'it does not begin'
        return ''
    if running.since < began:
        return ''
    if now - running.since > running.limit_s * patience:
        return (
            f'{running.part}, {running.step} takes more than '
            f'{running.limit_s:.0f} s'
        )
    return ''


def _note_end(
    order: Order, status: int, found: int, tell: Callable[[str], None]
) -> bool:
    """Record the step during which a worker ended; whether all is done.

    So many outcomes were ``found`` before it began.
    """
    record = Record.read(order.path)
    running = record.running
    if running is not None:
        hung = time.time() - running.since
        reason = f'the process ended with status {status} after {hung:.1f} s'
        state = OUT_OF_TIME if status == -9 else FAILED
        record.put(
            Outcome(running.part, running.step, state, hung, [], reason)
        )
        tell(f'{running.part}: {running.step}: {state}: {reason}')
        return False
    if status not in (0, worker.AGAIN):
        if len(record.outcomes) > found:
            tell(f'a worker ended with status {status} between two steps')
            return False
        tell(f'a worker ended with status {status} before it began a step')
        return True
    return status == 0
