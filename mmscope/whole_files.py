"""Files that others see either as they were or complete."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What a shell hands over may be a file, whose place nothing can take.
HANDED = re.compile(r'/dev/(std(out|err)|fd/\d+)|/proc/[^/]+/fd/\d+')


@contextmanager
def drafted(path: str | Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of another in the end.

    A disk that fills up, a kill and an exception leave what was there before.
    What cannot be replaced, such as a pipe or a file in a closed folder, is
    written to itself.

    Args:
        path (str | Path): File; its folder is made, a link is followed.

    Yields:
        Path: Beside it, or itself.
    """
    path = Path(path)
    if not _can_be_replaced(path):
        yield path
        return
    path = path.resolve() if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Names have 255 bytes at most.
    draft = path.with_name(f'.{path.name[:50]}.{secrets.token_hex(4)}.part')
    try:
        yield draft
        _replace(path, draft)
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write all of a file, see :func:`drafted`.

    Args:
        path (str | Path): File.
        content (str | bytes): Text is written as UTF-8.
    """
    if isinstance(content, str):
        content = content.encode()
    with drafted(path) as draft:
        draft.write_bytes(content)


def _can_be_replaced(path: Path) -> bool:
    if HANDED.fullmatch(str(path)):
        return False
    if not path.exists():
        return True
    return path.is_file() and os.access(path.resolve().parent, os.W_OK)


def _replace(path: Path, draft: Path) -> None:
    if path.exists():
        shutil.copymode(path, draft)
    try:
        os.replace(draft, path)
    except OSError as error:
        # A file that is mounted itself, as into a container.
        if error.errno != errno.EBUSY:
            raise
        shutil.copyfile(draft, path)
