"""A folder that one process at a time writes to."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO
from weakref import WeakSet

from mmengine.logging import print_log

from mmscope.errors import UserError

_files: WeakSet[IO[str]] = WeakSet()


class FolderLock:
    """Holds a folder until it is closed or the process ends, if by a kill.

    Args:
        folder (str | Path): One that exists; ``.lock`` stays in it.

    Raises:
        BlockingIOError: If another process, or another lock of this one,
            holds it.
        OSError: If the folder cannot be written to, or its file system knows
            no locks.
    """

    def __init__(self, folder: str | Path) -> None:
        self._path = Path(folder) / '.lock'
        self._file = _opened(self._path)
        _files.add(self._file)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise

    def holds(self) -> bool:
        """Tell whether the folder is still the one that was locked."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self._file.fileno()))

    def close(self) -> None:
        """Let another one have it."""
        self._file.close()


@contextmanager
def alone_in(folder: str | Path) -> Iterator[None]:
    """Keep a second training out of a work_dir.

    Where the file system knows no locks a warning is all.

    Args:
        folder (str | Path): Made if it is missing.

    Yields:
        None: The block runs inside.

    Raises:
        UserError: If one is running there.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        lock = FolderLock(folder)
    except BlockingIOError:
        raise UserError(
            f'another training writes to {folder}: wait for it, or name '
            'another --work-dir'
        ) from None
    except OSError as error:
        print_log(
            f'{folder} cannot be locked ({error}): see to it that no second '
            'training writes to it',
            'current',
            logging.WARNING,
        )
        yield
        return
    with closing(lock):
        yield


def _opened(path: Path) -> IO[str]:
    try:
        return path.open('a')
    except PermissionError:
        if not path.exists():
            raise
        # Another user's: to lock it is no writing.
        return path.open()


def _let_go() -> None:
    # A lock is one with its copies in forked processes, which outlive, if for
    # a moment, a process that is killed.
    for file in [*_files]:
        file.close()


os.register_at_fork(after_in_child=_let_go)
