"""A result that cannot be written does not destroy the one before it."""

from __future__ import annotations

import os
import signal
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
        with drafted(path) as draft:
            draft.write_text('new')
            os.kill(os.getpid(), signal.SIGKILL)
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
    reader.join(10)
    assert got == ['text']
