"""New files of a folder are all there, or the next try succeeds."""

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from mmscope.errors import UserError
from mmscope.inference.new_files import check_free, write_files

OLD = {'config': b'old', 'weights': b'older', 'notes': b'oldest'}
NEW = {'config': b'new', 'weights': b'newer', 'notes': b'newest'}


def contents_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def killed(folder, calls, function):
    """Run a process that kills itself in place of a call of a path."""
    actual, left = getattr(Path, function), [calls]

    def call(path, *args, **options):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return actual(path, *args, **options)

    def work():
        setattr(Path, function, call)
        write_files(folder, OLD)

    child = multiprocessing.get_context('fork').Process(target=work)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize('calls', [0, 1, 2])
@pytest.mark.parametrize('function', ['write_bytes', 'rename'])
def test_what_a_kill_left_is_no_whole_and_not_in_the_way(
    function, calls, tmp_path
):
    folder = tmp_path / 'a'
    killed(folder, calls, function)
    assert not (folder / 'config').exists()
    check_free(folder, NEW)
    write_files(folder, NEW)
    assert contents_of(folder) == NEW


@pytest.mark.parametrize(
    ('name', 'function', 'calls'),
    [
        ('notes', 'write_bytes', 0),
        ('weights', 'write_bytes', 1),
        ('weights', 'write_bytes', 2),
        ('notes', 'rename', 0),
        ('weights', 'rename', 0),
        ('weights', 'rename', 1),
    ],
)
def test_a_file_of_others_is_kept_after_a_kill(
    name, function, calls, tmp_path
):
    killed(tmp_path, calls, function)
    (tmp_path / name).write_bytes(b'theirs')
    message = f'holds {name} already: .* or move {name} away; nothing was'
    with pytest.raises(UserError, match=message):
        write_files(tmp_path, NEW)
    assert (tmp_path / name).read_bytes() == b'theirs'
    (tmp_path / name).unlink()
    write_files(tmp_path, NEW)
    assert contents_of(tmp_path) == NEW


def test_a_link_of_others_is_kept_after_a_kill(tmp_path):
    killed(tmp_path, 2, 'rename')
    (tmp_path / 'weights').rename(tmp_path / 'elsewhere')
    (tmp_path / 'weights').symlink_to('elsewhere')
    with pytest.raises(UserError, match='holds weights already'):
        write_files(tmp_path, NEW)


@pytest.mark.parametrize('function', ['write_bytes', 'rename'])
def test_a_try_that_fails_after_a_kill_leaves_nothing(
    function, tmp_path, monkeypatch
):
    def full(path, *args):
        if 'config' in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return actual(path, *args)

    killed(tmp_path, 2, 'rename')
    with monkeypatch.context() as patched:
        actual = getattr(Path, function)
        patched.setattr(Path, function, full)
        with pytest.raises(UserError, match='No space left'):
            write_files(tmp_path, NEW)
    assert contents_of(tmp_path) == {}


def test_files_of_others_are_not_overwritten(tmp_path):
    write_files(tmp_path, OLD)
    with pytest.raises(UserError, match='config and weights and notes alre'):
        write_files(tmp_path, NEW)
    assert contents_of(tmp_path) == OLD


@pytest.mark.parametrize('before', [True, False])
def test_an_interruption_at_a_name_leaves_nothing(
    before, tmp_path, monkeypatch
):
    actual = Path.rename

    def interrupted(path, target):
        if not before:
            actual(path, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, 'rename', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_files(tmp_path / 'a', NEW)
    assert contents_of(tmp_path) == {}


def test_two_at_the_same_time_do_not_mix(tmp_path, monkeypatch):
    rename, refused = Path.rename, []

    def meanwhile(path, target):
        done = rename(path, target)
        with pytest.raises(UserError, match='nothing was written') as error:
            write_files(tmp_path / 'a', OLD)
        refused.append('another process writes' in str(error.value))
        return done

    monkeypatch.setattr(Path, 'rename', meanwhile)
    write_files(tmp_path / 'a', NEW)
    assert contents_of(tmp_path / 'a') == NEW
    # With the last name all is there, and in the way.
    assert refused == [True, True, False]
