from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import pytest
from builders.processes import is_gone

from mmscope.benchmark.gpu import sanitizer
from mmscope.benchmark.gpu.sanitizer import ERROR_STATUS, command, verdict
from mmscope.benchmark.gpu.scale import full_scale, tiny_scale

CLEAN = 'small kernels: 60 tensors\n===== ERROR SUMMARY: 0 errors'


def test_the_tool_stands_in_front():
    words = command('racecheck', full_scale())
    assert words[:3] == ['compute-sanitizer', '--tool', 'racecheck']
    assert 'watched' in words
    assert 'no' not in words
    words = command('memcheck', full_scale())
    # A call that asks the driver for what it lacks is no wrong access.
    assert words[words.index('--report-api-errors') + 1] == 'no'


def test_a_check_that_takes_too_long_ends_with_its_children(
    monkeypatch, tmp_path
):
    # What the tool starts holds its output open, and outlives it.
    note = tmp_path / 'pid'
    script = f'sleep 60 & echo $! > {note}; echo began; wait'
    monkeypatch.setattr(sanitizer, 'command', lambda *_: ['sh', '-c', script])
    scale = replace(tiny_scale(), patience=4.0)
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match='not done in 4 s: began'):
        sanitizer._check('memcheck', scale, 1.0)
    assert time.monotonic() - begin < 20
    assert is_gone(int(note.read_text()))


def test_a_program_ends_when_the_one_that_wants_it_is_gone():
    program = (
        'import sys, time\n'
        'from mmscope.benchmark.gpu.processes import end_with\n'
        'end_with(int(sys.argv[1]))\n'
        'time.sleep(60)'
    )
    master = subprocess.Popen(['sleep', '60'])
    # In a session of its own, where no signal for the others reaches it.
    watching = subprocess.Popen(
        [sys.executable, '-c', program, str(master.pid)],
        start_new_session=True,
    )
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            watching.wait(1.0)
        master.kill()
        master.wait()
        assert watching.wait(40.0) == 1
    finally:
        master.kill()
        watching.kill()


def test_a_clean_check_is_told_from_one_with_errors():
    assert verdict('memcheck', 0, CLEAN).ok
    said = 'Invalid __global__ write of size 4 bytes\n' + CLEAN
    found = verdict('memcheck', ERROR_STATUS, said)
    assert not found.ok
    assert found.said[0].startswith('Invalid __global__ write')


def test_a_tool_that_does_not_work_is_no_verdict():
    with pytest.raises(RuntimeError, match='Device not supported'):
        verdict('memcheck', 1, '===== Error: Device not supported')
