"""How tools end that are stopped, or cannot write."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from mmscope.errors import UserError
from mmscope.runtime import disk_errors, latest_checkpoint

JOB = """
import os, sys, time
from torch.utils.data import DataLoader
from mmscope.runtime import ending_cleanly

class Slow:
    def __len__(self):
        return 10**6

    def __getitem__(self, i):
        time.sleep(0.01)
        return i

@ending_cleanly(': go on')
def main():
    loader = DataLoader(Slow(), 1, num_workers=2, persistent_workers=True)
    for i, _ in enumerate(loader):
        if i == 3:
            print(os.getpid(), flush=True)

main()
"""


def children(pid):
    with open(f'/proc/{pid}/task/{pid}/children') as file:
        return [int(word) for word in file.read().split()]


@pytest.mark.skipif(
    not os.path.exists('/proc/self/task'), reason='looks for children in /proc'
)
@pytest.mark.parametrize(
    ('number', 'everybody', 'status', 'said'),
    [
        (signal.SIGTERM, False, 143, 'stopped by SIGTERM: go on'),
        (signal.SIGTERM, True, 143, 'stopped by SIGTERM: go on'),
        (signal.SIGINT, True, 130, 'stopped by Ctrl-C: go on'),
    ],
)
def test_a_stopped_tool_ends_with_a_line_its_status_and_its_workers(
    number, everybody, status, said
):
    def own_group():
        os.setpgrp()
        # Shells let jobs in the background ignore Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    job = subprocess.Popen(
        [sys.executable, '-c', JOB],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=own_group,
    )
    assert job.stdout.readline().strip() == str(job.pid)
    workers = children(job.pid)
    assert len(workers) >= 2
    (os.killpg if everybody else os.kill)(job.pid, number)
    _, error = job.communicate(timeout=60)
    assert job.returncode == status
    assert error.splitlines() == [said], error
    deadline = time.monotonic() + 60
    while any(os.path.exists(f'/proc/{pid}') for pid in workers):
        assert time.monotonic() < deadline, 'a worker goes on'
        time.sleep(0.1)


def test_a_full_disk_is_named_with_what_is_free(tmp_path, small_files):
    with pytest.raises(UserError) as error:
        with disk_errors(tmp_path, 'Free some.'):
            (tmp_path / 'a').write_bytes(bytes(2**17))
    text = str(error.value)
    assert f'a file in {tmp_path} cannot be written: File too large' in text
    assert 'MiB free). Free some.' in text


@pytest.mark.parametrize(
    'number', [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT]
)
def test_what_cannot_be_written_is_named(tmp_path, number):
    with pytest.raises(UserError, match='/x/a.pth cannot be written'):
        with disk_errors(tmp_path / 'not' / 'there'):
            raise OSError(number, os.strerror(number), '/x/a.pth')


def test_a_folder_below_a_file_is_named(tmp_path):
    (tmp_path / 'a').touch()
    with pytest.raises(UserError, match='a/work cannot be written: Not a dir'):
        with disk_errors(tmp_path / 'a' / 'work'):
            os.makedirs(tmp_path / 'a' / 'work')


def test_other_errors_pass(tmp_path):
    with pytest.raises(FileNotFoundError):
        with disk_errors(tmp_path):
            (tmp_path / 'none').read_bytes()


def test_a_note_of_a_file_that_is_cut_or_gone_is_not_believed(tmp_path):
    import torch

    for step in (2, 4):
        torch.save({'step': step}, tmp_path / f'iter_{step}.pth')
        os.utime(tmp_path / f'iter_{step}.pth', (step, step))
    note, last = tmp_path / 'last_checkpoint', tmp_path / 'iter_4.pth'
    note.write_text(str(last))
    assert latest_checkpoint(tmp_path) == str(last)
    note.write_text('/moved/iter_4.pth')
    assert latest_checkpoint(tmp_path) == str(last)
    note.write_text(str(last))
    last.write_bytes(last.read_bytes()[:-10])
    assert latest_checkpoint(tmp_path) == str(tmp_path / 'iter_2.pth')
