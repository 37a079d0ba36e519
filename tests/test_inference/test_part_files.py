"""A table of Parquet files belongs to one writer at a time."""

import multiprocessing
import time
from contextlib import closing

import pytest

from mmscope.errors import UserError
from mmscope.inference.part_files import PartFiles

pytest.importorskip('pyarrow', reason='tables need pyarrow')


def outlive(began):
    began.set()
    time.sleep(60)


def test_processes_that_outlive_a_table_do_not_keep_it_locked(tmp_path):
    columns = {'name': 'string'}
    parts = PartFiles(tmp_path, columns, {})
    # As an engine's workers do: forked while the table is open, and for a
    # moment longer there than a process that was killed.
    context = multiprocessing.get_context('fork')
    began = context.Event()
    child = context.Process(target=outlive, args=(began,))
    child.start()
    try:
        assert began.wait(60)
        with pytest.raises(UserError, match='another process'):
            PartFiles(tmp_path, columns, {})
        parts.close()
        PartFiles(tmp_path, columns, {}).close()
    finally:
        child.kill()
        child.join()


def test_a_refused_table_is_not_locked(tmp_path):
    columns = {'name': 'string'}
    with closing(PartFiles(tmp_path, columns, {'a': 1})) as parts:
        parts.write([{'name': 'x'}])
    with pytest.raises(UserError, match='a 1, now 2') as kept:
        PartFiles(tmp_path, columns, {'a': 2})
    PartFiles(tmp_path, columns, {'a': 1}).close()
    # Its traceback holds the refused one.
    assert kept.value.__traceback__ is not None
