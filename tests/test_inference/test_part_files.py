"""A table of Parquet files belongs to one writer at a time."""

import errno
import multiprocessing
import os
import shutil
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from mmscope.errors import UserError
from mmscope.inference.part_files import PartFiles

pytest.importorskip('pyarrow', reason='tables need pyarrow')
COLUMNS = {'name': 'string'}


def outlive(began):
    began.set()
    time.sleep(60)


def test_processes_that_outlive_a_table_do_not_keep_it_locked(tmp_path):
    parts = PartFiles(tmp_path, COLUMNS, {})
    # As an engine's workers do: forked while the table is open, and for a
    # moment longer there than a process that was killed.
    context = multiprocessing.get_context('fork')
    began = context.Event()
    child = context.Process(target=outlive, args=(began,))
    child.start()
    try:
        assert began.wait(60)
        with pytest.raises(UserError, match='another process'):
            PartFiles(tmp_path, COLUMNS, {})
        parts.close()
        PartFiles(tmp_path, COLUMNS, {}).close()
    finally:
        child.kill()
        child.join()


def test_a_refused_table_is_not_locked(tmp_path):
    with closing(PartFiles(tmp_path, COLUMNS, {'a': 1})) as parts:
        parts.write([{'name': 'x'}])
    with pytest.raises(UserError, match='a 1, now 2') as kept:
        PartFiles(tmp_path, COLUMNS, {'a': 2})
    PartFiles(tmp_path, COLUMNS, {'a': 1}).close()
    # Its traceback holds the refused one.
    assert kept.value.__traceback__ is not None


def names_of(parts):
    return [name for part in parts.columns('name') for name in part['name']]


def files_of(folder):
    return sorted(path.name for path in folder.iterdir())


def killed_in(function, module, folder):
    """Run a process that kills itself in place of a call; a row is there."""

    def work():
        parts = PartFiles(folder, COLUMNS, {})
        parts.write([{'name': 'a'}])

        def kill(*args, **options):
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(module, function, kill)
        parts.write([{'name': 'b'}])

    child = multiprocessing.get_context('fork').Process(target=work)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize('link', [False, True])
@pytest.mark.parametrize(
    ('function', 'module'), [('fsync', os), ('rename', Path)]
)
def test_a_killed_writer_leaves_nothing_else_in_the_table(
    function, module, link, tmp_path
):
    # Polars and DuckDB take every file in it for rows, hidden ones as well.
    folder = given = tmp_path / 'place' / 'a.parquet'
    folder.mkdir(parents=True)
    if link:
        given = tmp_path / 'link'
        given.symlink_to(folder)
    killed_in(function, module, given)
    assert files_of(folder) == ['.lock', 'part-000000.parquet']
    assert (folder / '.lock').stat().st_size == 0
    assert len(files_of(folder.parent)) == 2
    # Of another table, which may be written to now.
    other = folder.parent / '.a.parquet.old.7.part'
    other.touch()
    with closing(PartFiles(given, COLUMNS, {})) as parts:
        assert files_of(folder.parent) == [other.name, folder.name]
        parts.write([{'name': 'b'}])
        assert names_of(parts) == ['a', 'b']
    assert files_of(folder.parent) == [other.name, folder.name]


def test_a_table_in_a_place_of_others_has_its_drafts_inside(
    tmp_path, monkeypatch
):
    folder, actual = tmp_path / 'a.parquet', Path.rename

    def another_disk(path, target):
        if path.parent != Path(target).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return actual(path, target)

    monkeypatch.setattr(Path, 'rename', another_disk)
    killed_in('fsync', os, folder)
    assert files_of(tmp_path) == ['a.parquet']
    assert len(files_of(folder)) == 3
    # DuckDB reads *.parquet.
    assert len([*folder.glob('*.parquet')]) == 1
    with closing(PartFiles(folder, COLUMNS, {})) as parts:
        parts.write([{'name': 'b'}])
        assert names_of(parts) == ['a', 'b']
    parts = ['part-000000.parquet', 'part-000001.parquet']
    assert files_of(folder) == ['.lock', *parts]


def test_what_an_earlier_version_left_in_a_table_goes(tmp_path):
    (tmp_path / '.part-000000.parquet').write_bytes(b'PAR1')
    PartFiles(tmp_path, COLUMNS, {}).close()
    assert files_of(tmp_path) == ['.lock']


def test_a_part_that_could_not_be_written_is_not_there(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = tmp_path / 'a.parquet'
    with closing(PartFiles(folder, COLUMNS, {})) as parts:
        with monkeypatch.context() as patched:
            patched.setattr('pyarrow.parquet.write_table', full)
            with pytest.raises(OSError, match='No space'):
                parts.write([{'name': 'a'}])
        assert files_of(tmp_path) == ['a.parquet']
        parts.write([{'name': 'a'}])
        assert names_of(parts) == ['a']


@pytest.mark.parametrize('late', [False, True])
def test_a_table_that_was_removed_has_one_writer(late, tmp_path, monkeypatch):
    folder = tmp_path / 'a.parquet'
    first = PartFiles(folder, COLUMNS, {'threshold': 0.8})
    first.write([{'name': 'a'}])
    opened = []

    def replace(*args):
        shutil.rmtree(folder)
        opened.append(PartFiles(folder, COLUMNS, {'threshold': 0.5}))
        opened[0].write([{'name': 'b'}])

    if late:
        # While the part is being written.
        monkeypatch.setattr(os, 'fsync', once(os.fsync, replace))
    else:
        replace()
    with pytest.raises(UserError, match='was removed or replaced while.*let'):
        first.write([{'name': 'a'}])
    first.close()
    (second,) = opened
    second.write([{'name': 'c'}])
    assert names_of(second) == ['b', 'c']
    assert files_of(tmp_path) == ['a.parquet']
    second.close()
    PartFiles(folder, COLUMNS, {'threshold': 0.5}).close()


def once(actual, before):
    """Do something before the first call alone."""
    calls = []

    def call(*args):
        calls.append(args)
        if len(calls) == 1:
            before()
        return actual(*args)

    return call


def test_a_table_that_is_gone_is_told(tmp_path):
    folder = tmp_path / 'a.parquet'
    with closing(PartFiles(folder, COLUMNS, {})) as parts:
        shutil.rmtree(folder)
        with pytest.raises(UserError, match='removed .*nothing more is writ'):
            parts.write([{'name': 'a'}])
    assert files_of(tmp_path) == []


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_not_another_process(
    number, tmp_path, monkeypatch
):
    def no_lock(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr('fcntl.flock', no_lock)
    message = f'no table can be written to .*{os.strerror(number)}.*--out'
    with pytest.raises(UserError, match=message):
        PartFiles(tmp_path, COLUMNS, {})
