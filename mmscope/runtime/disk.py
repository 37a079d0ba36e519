"""A disk that cannot be written to is named, in one sentence."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmscope.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)


@contextmanager
def disk_errors(folder: str | Path, hint: str = '') -> Iterator[None]:
    """Say which folder is full or may not be written to, and what to do.

    A log that cannot be written, too, adds nothing. Raises UserError with the
    file or folder, the reason and the space left.
    """
    told, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        yield
    except OSError as error:
        if error.errno not in (*FULL, *CLOSED):
            raise
        # A write that fails does not know its file.
        place = error.filename or f'a file in {Path(folder).absolute()}'
        left = _left(Path(folder)) if error.errno in FULL else ''
        raise UserError(
            f'{place} cannot be written: {error.strerror}{left}. {hint}'
        ) from error
    finally:
        logging.raiseExceptions = told


def _left(folder: Path) -> str:
    """Space on the disk of a folder that may not be there yet."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    return f' ({shutil.disk_usage(there).free / 2**20:,.0f} MiB free)'
