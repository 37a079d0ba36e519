"""A folder that one process at a time writes to."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from weakref import WeakSet

from mmengine.logging import print_log

from mmscope.errors import UserError

_locks: WeakSet[FolderLock] = WeakSet()


class FolderLock:
    """Holds a folder until it is closed or the process ends, if by a kill.

    Args:
        folder (str | Path): One that exists.
        name (str): File that is locked, and stays there; '' locks the folder
            itself, which fewer file systems can. Defaults to '.lock'.

    Raises:
        BlockingIOError: If another process, or another lock of this one,
            holds it.
        OSError: If the folder cannot be written to, or its file system knows
            no locks.
    """

    _file = -1

    def __init__(self, folder: str | Path, name: str = '.lock') -> None:
        self._path = Path(folder) / name
        self._file = _opened(self._path)
        _locks.add(self)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise

    def holds(self) -> bool:
        """Tell whether the folder is still the one that was locked."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self._file))

    def close(self) -> None:
        """Let another one have it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        self.close()


@contextmanager
def alone_in(
    folder: str | Path,
    doing: str = 'training',
    hint: str = 'wait for it, or name another --work-dir',
    name: str = '.lock',
) -> Iterator[None]:
    """Keep a second training, or the like, out of a folder.

    Where the file system knows no locks a warning is all.

    Args:
        folder (str | Path): Made if it is missing.
        doing (str): What is done, for the message. Defaults to 'training'.
        hint (str): What to do. Defaults to that of a training.
        name (str): See :class:`FolderLock`. Defaults to '.lock'.

    Yields:
        None: The block runs inside.

    Raises:
        UserError: If another one is running there.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        lock = FolderLock(folder, name)
    except BlockingIOError:
        raise UserError(
            f'another {doing} writes to {folder}: {hint}'
        ) from None
    except OSError as error:
        print_log(
            f'{folder} cannot be locked ({error}): see to it that no second '
            f'{doing} writes to it',
            'current',
            logging.WARNING,
        )
        yield
        return
    with closing(lock):
        yield


def _opened(path: Path) -> int:
    if path.is_dir():
        return os.open(path, os.O_RDONLY)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        if not path.exists():
            raise
        # Another user's: to lock it is no writing.
        return os.open(path, os.O_RDONLY)


def _let_go() -> None:
    # A lock is one with its copies in forked processes, which outlive, if for
    # a moment, a process that is killed.
    for lock in [*_locks]:
        lock.close()


os.register_at_fork(after_in_child=_let_go)
