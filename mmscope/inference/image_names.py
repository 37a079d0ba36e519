"""Names of many images, one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from mmscope.errors import UserError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')


def image_names(source: str | Path) -> Iterator[str]:
    """Find the images of a folder or a list, without holding their names.

    Args:
        source (str | Path): Folder, looked through with those inside (links
            to folders are not followed); or a text file with one path a
            line, absolute or relative to the list, each once.

    Yields:
        str: Path relative to the folder, in no particular order; or the line
        of the list, in its order.

    Raises:
        UserError: If there is no such source, it is an image, or a list
            names an image twice or is no text.
    """
    source = Path(source)
    if source.is_dir():
        return _in_folder(source)
    if source.name.lower().endswith(SUFFIXES) and source.exists():
        raise UserError(
            f'{source} is an image: give its folder, or a text file with one '
            'path a line'
        )
    if source.is_file():
        return _in_list(source)
    raise UserError(
        f'{source.absolute()} does not exist: give a folder of images, or a '
        'text file with one path a line'
    )


def folder_of(source: str | Path) -> Path:
    """Return what the names of :func:`image_names` are relative to."""
    return Path(source) if Path(source).is_dir() else Path(source).parent


def _in_folder(root: Path) -> Iterator[str]:
    waiting = ['']
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                name = os.path.join(folder, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(name)
                elif name.lower().endswith(SUFFIXES):
                    yield name


def _in_list(source: Path) -> Iterator[str]:
    known = set()
    with source.open(encoding='utf-8-sig', errors='surrogateescape') as lines:
        for number, line in enumerate(lines, start=1):
            if '\0' in line:
                raise UserError(
                    f'{source} is no text (a zero byte in line {number}): '
                    'give a folder, or a text file with one path a line'
                )
            name = line.rstrip('\r\n')
            if not name:
                continue
            if (key := name_key(printable(name))) in known:
                raise UserError(
                    f'{source} names {name} a second time in line {number}: '
                    'list each image once'
                )
            known.add(key)
            yield name


def name_key(name: str) -> int:
    """Shorten a name to 64 bits.

    Among a million names two agree with a probability of 3e-8.
    """
    return int.from_bytes(
        blake2b(name.encode(), digest_size=8).digest(), 'big'
    )


def printable(name: str) -> str:
    """Escape what is no UTF-8 in the name of a file."""
    return os.fsencode(name).decode('utf-8', 'backslashreplace')
