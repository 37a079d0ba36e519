"""A result that cannot be written does not destroy the one before it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading

import pandas
import pytest
import torch

from mmscope.analysis.markers import markers, update_document
from mmscope.benchmark.files import write_json
from mmscope.cli.vim_to_mmscope import write as write_weights
from mmscope.errors import UserError
from mmscope.evaluation import SweepResult
from mmscope.whole_files import drafted, write_whole

LONG = 2**17 * 'x'


def write_sweep(path):
    rows = pandas.DataFrame([{'threshold': 0.5, 'top1': 1.0}])
    images = pandas.DataFrame({'name': [LONG]})
    SweepResult('top1', 'exact', rows, images=images).to_json(path)


def write_document(path):
    update_document(path, 'tool', LONG)


@pytest.mark.parametrize(
    'write',
    [
        lambda path: write_whole(path, LONG),
        lambda path: write_json(path, [LONG]),
        lambda path: write_weights(path, {'a': torch.zeros(2**17)}),
        write_sweep,
        write_document,
    ],
)
def test_a_full_disk_leaves_what_was_there(tmp_path, small_files, write):
    path = tmp_path / 'file'
    old = '\n'.join(markers('tool'))
    path.write_text(old)
    with pytest.raises((OSError, UserError)):
        write(path)
    assert path.read_text() == old
    assert os.listdir(tmp_path) == ['file']


def test_a_kill_leaves_what_was_there(tmp_path):
    path = tmp_path / 'file'
    write_whole(path, 'old')
    child = os.fork()
    if not child:
        try:
            with drafted(path) as draft:
                draft.write_text('new')
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert path.read_text() == 'old'
    write_whole(path, 'newer')
    assert path.read_text() == 'newer'


def test_a_link_stays_one(tmp_path):
    (tmp_path / 'a').mkdir()
    link = tmp_path / 'link'
    link.symlink_to(tmp_path / 'a' / 'file')
    for text in 'ab':
        write_whole(link, text)
        assert link.is_symlink()
        assert link.read_text() == text
    assert os.listdir(tmp_path / 'a') == ['file']


def test_a_pipe_gets_the_text(tmp_path):
    pipe, got = tmp_path / 'pipe', []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    write_whole(pipe, 'text')
    reader.join(60)
    assert got == ['text']


@pytest.mark.parametrize('to_file', [True, False])
def test_the_output_of_a_shell_gets_the_text(tmp_path, to_file):
    program = (
        'from mmscope.whole_files import write_whole\n'
        "print('before', flush=True)\n"
        "write_whole('/dev/stdout', 'text')"
    )
    with (tmp_path / 'out').open('w+') as file:
        done = subprocess.run(
            [sys.executable, '-c', program],
            stdout=file if to_file else subprocess.PIPE,
            text=True,
            check=True,
        )
        file.seek(0)
        assert 'text' in (file.read() if to_file else done.stdout)
    assert os.listdir(tmp_path) == ['out']


def test_a_mode_is_kept(tmp_path):
    path = tmp_path / 'file'
    write_whole(path, 'a')
    path.chmod(0o600)
    write_whole(path, 'b')
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == 'b'


def test_a_file_that_is_mounted_is_written_to(tmp_path, monkeypatch):
    def busy(*paths):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, 'replace', busy)
    write_whole(tmp_path / 'file', 'text')
    assert (tmp_path / 'file').read_text() == 'text'
    assert os.listdir(tmp_path) == ['file']


def test_a_file_in_a_closed_folder_is_written_to(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    path.write_text('old')
    inode = path.stat().st_ino
    # root may write to any folder.
    monkeypatch.setattr(os, 'access', lambda *args: False)
    write_whole(path, 'new')
    assert (path.read_text(), path.stat().st_ino) == ('new', inode)


def test_a_long_name_and_two_threads_have_drafts(tmp_path):
    path = tmp_path / ('x' * 250)
    with drafted(path) as one, drafted(path) as other:
        one.write_text('one')
        other.write_text('other')
    assert path.read_text() == 'one'


def test_converted_weights_have_the_same_bytes_again(tmp_path):
    paths = [tmp_path / 'a.pth', tmp_path / 'b.pth']
    for path in paths:
        write_weights(path, {'a': torch.ones(3)})
    assert paths[0].read_bytes() == paths[1].read_bytes()
