"""One process at a time writes to a folder."""

import errno
import fcntl
import multiprocessing
import os
import time
from contextlib import closing

import pytest

from mmscope.errors import UserError
from mmscope.runtime import alone_in, is_first_process
from mmscope.runtime.folder_lock import FolderLock


def outlive(began):
    began.set()
    time.sleep(60)


def test_a_second_training_is_kept_out_until_the_first_ends(tmp_path):
    with alone_in(tmp_path):
        with pytest.raises(UserError, match='name another --work-dir'):
            with alone_in(tmp_path):
                pass
    with alone_in(tmp_path):
        pass


def test_processes_forked_meanwhile_do_not_hold_it(tmp_path):
    context = multiprocessing.get_context('fork')
    began = context.Event()
    child = context.Process(target=outlive, args=(began,))
    with closing(FolderLock(tmp_path)):
        child.start()
        assert began.wait(60)
        with pytest.raises(BlockingIOError):
            FolderLock(tmp_path)
    try:
        FolderLock(tmp_path).close()
    finally:
        child.kill()
        child.join()


@pytest.mark.parametrize(
    ('launcher', 'variable', 'is_first'),
    [
        ('none', {'RANK': '3'}, True),
        ('pytorch', {'RANK': '0'}, True),
        ('pytorch', {'RANK': '3'}, False),
        ('slurm', {'SLURM_PROCID': '1'}, False),
        ('mpi', {'OMPI_COMM_WORLD_RANK': '1'}, False),
    ],
)
def test_one_process_of_a_training_asks(
    monkeypatch, launcher, variable, is_first
):
    for name, number in variable.items():
        monkeypatch.setenv(name, number)
    assert is_first_process(launcher) is is_first


def test_the_lock_of_another_user_is_a_lock(tmp_path, monkeypatch):
    with closing(FolderLock(tmp_path)):
        (tmp_path / '.lock').chmod(0o444)
        opened = os.open

        def closed(path, flags, *mode):
            if flags & os.O_RDWR:
                raise PermissionError(errno.EACCES, 'not yours', str(path))
            return opened(path, flags, *mode)

        # root may write to anything.
        monkeypatch.setattr(os, 'open', closed)
        with pytest.raises(BlockingIOError):
            FolderLock(tmp_path)
    FolderLock(tmp_path).close()


def test_without_locks_there_is_a_warning(tmp_path, monkeypatch, caplog):
    def unable(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, 'flock', unable)
    said = []
    monkeypatch.setattr(
        'mmscope.runtime.folder_lock.print_log',
        lambda text, *rest: said.append(text),
    )
    with alone_in(tmp_path):
        assert 'see to it that no second training' in said[0]


def test_a_folder_that_was_replaced_is_told(tmp_path):
    folder = tmp_path / 'a'
    folder.mkdir()
    with closing(FolderLock(folder)) as lock:
        assert lock.holds()
        folder.rename(tmp_path / 'b')
        assert not lock.holds()
        folder.mkdir()
        with closing(FolderLock(folder)):
            assert not lock.holds()
