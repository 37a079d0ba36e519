"""Processes of a measurement end with the one that wants them."""

from __future__ import annotations

import os
import subprocess
import sys

from mmscope.benchmark.gpu import run_cases, supervisor, warm_cache, worker
from mmscope.benchmark.gpu.scale import tiny_scale
from mmscope.benchmark.gpu.supervisor import Order

PROGRAM = """
import sys, time
from mmscope.benchmark.gpu.processes import end_with
end_with(int(sys.argv[1]), is_parent=True)
time.sleep(30)
print('goes on')
"""
# Starts the program, and is gone while that still imports.
MASTER = """
import os, subprocess, sys
subprocess.Popen([sys.executable, '-c', sys.argv[1], str(os.getpid())])
"""


def order(tmp_path):
    return Order(tmp_path / 'f.json', {}, ['ops'], dry_run=True)


def test_a_worker_watches_the_supervisor_that_started_it(
    tmp_path, monkeypatch
):
    watched = []
    monkeypatch.setattr(worker, 'run_parts', lambda *args: None)
    monkeypatch.setattr(
        worker, 'end_with', lambda *args, **options: watched.append(args[0])
    )
    words = supervisor.command(order(tmp_path), 1.0)
    # It may be gone while the worker still imports.
    monkeypatch.setattr(os, 'getppid', lambda: 1)
    assert worker.main(words[3:]) == 0
    assert watched == [os.getpid()]


def test_a_process_that_warms_watches_the_worker_that_started_it(monkeypatch):
    watched = []
    monkeypatch.setattr(run_cases, 'end_with', watched.append)
    monkeypatch.setattr(run_cases, '_works', lambda *args: [])
    monkeypatch.setattr(run_cases, 'require_triton', lambda device: None)
    run_cases.main(warm_cache.command(0, 1, tiny_scale())[3:])
    assert watched == [os.getpid()]


def test_a_program_ends_where_its_parent_is_another_one():
    # The number may be that of a new process by now.
    with subprocess.Popen(['sleep', '60']) as other:
        words = [sys.executable, '-c', PROGRAM, str(other.pid)]
        try:
            done = subprocess.run(words, capture_output=True, text=True)
        finally:
            other.kill()
    assert (done.returncode, done.stdout, done.stderr) == (1, '', '')


def test_a_program_ends_with_a_parent_that_is_a_zombie():
    with subprocess.Popen(
        [sys.executable, '-c', MASTER, PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as master:
        # Nobody asks how it ended before the program is gone, too.
        assert master.stdout.read() == ''
