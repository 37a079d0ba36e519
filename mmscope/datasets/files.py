"""Files that are what they seem to be: regular, text, of a known encoding."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from os import PathLike
from pathlib import Path

from mmscope.errors import DatasetLayoutError

SHOWN = 3
# Longest first: UTF-32 begins as UTF-16 does.
MARKS = {
    codecs.BOM_UTF32_LE: 'UTF-32',
    codecs.BOM_UTF32_BE: 'UTF-32',
    codecs.BOM_UTF16_LE: 'UTF-16',
    codecs.BOM_UTF16_BE: 'UTF-16',
}


def no_file(path: str | PathLike) -> str:
    """Say what lies at a path where a regular file should.

    Opening a pipe would wait for ever.

    Args:
        path (str | PathLike): Links are followed.

    Returns:
        str: Such as 'does not exist' or 'is a pipe'; '' for a file.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError:
        return 'holds a NUL character, which no file name can'
    except OSError as error:
        if os.path.islink(path):
            return 'is a broken link'
        absent = isinstance(error, (FileNotFoundError, NotADirectoryError))
        return 'does not exist' if absent else f'is closed ({error.strerror})'
    if stat.S_ISREG(mode):
        return ''
    if stat.S_ISDIR(mode):
        return 'is a folder'
    return 'is a pipe' if stat.S_ISFIFO(mode) else 'is a device or socket'


def read_lines(path: str | PathLike, kind: str, wanted: str) -> list[str]:
    r"""Read a text file of one entry per line, in UTF-8 and nothing else.

    Other encodings give other names without a word, so none is guessed.

    Args:
        path (str | PathLike): With lines that end in ``\n`` or ``\r\n``; a
            byte order mark of UTF-8 is dropped.
        kind (str): What messages call it, such as 'class list'.
        wanted (str): What each line should hold, for the messages.

    Returns:
        list[str]: Lines without their ends, blanks as they are.

    Raises:
        DatasetLayoutError: If there is no such file, or it is no UTF-8.
    """
    path = Path(path).expanduser()
    if problem := no_file(path):
        raise DatasetLayoutError(
            f'{kind} {path.absolute()} {problem}{nearest_parent(path)}: '
            f'expected a text file with {wanted} on each line'
        )
    data = path.read_bytes()
    if problem := no_utf8(data):
        raise DatasetLayoutError(
            f'{kind} {path.absolute()} {problem}. Save it as UTF-8: every '
            'other encoding would have to be guessed.'
        )
    lines = data.decode('utf-8-sig').split('\n')
    return [line.removesuffix('\r') for line in lines]


def no_utf8(data: bytes) -> str:
    """Say in which way bytes are no text in UTF-8.

    Args:
        data (bytes): The whole file.

    Returns:
        str: Beginning with a verb, '' for UTF-8.
    """
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            return f'is {encoding} (it begins with {mark!r})'
    if b'\0' in data:
        where = data.index(b'\0')
        return (
            f'is no text: byte {where:,} is 0, as in UTF-16 without a mark '
            f'or in a binary file ({data[:8]!r} comes first)'
        )
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b'\n', 0, error.start) + 1
        near = data[max(0, error.start - 15) : error.start + 15]
        return (
            f'is no UTF-8: byte {error.start:,} in line {line:,} is '
            f'{data[error.start : error.start + 1]!r} (near {near!r}), as '
            'in Latin-1 or cp1252'
        )
    return ''


def walk_files(
    folder: str | PathLike, endings: Sequence[str] = ()
) -> Iterator[os.DirEntry]:
    """Find everything in a folder whose name has one of the endings.

    Links to folders are followed, each folder is entered once: a link back
    would repeat all images. Hidden files and what is a folder are left out;
    broken links and pipes are not, see :func:`no_file`.

    Args:
        folder (str | PathLike): Where to begin.
        endings (Sequence[str]): In lower case; empty takes all. Defaults to
            ().

    Yields:
        os.DirEntry: In no order.
    """
    seen, waiting = set(), [os.fspath(folder)]
    while waiting:
        place = waiting.pop()
        found = os.stat(place)
        if (found.st_dev, found.st_ino) in seen:
            continue
        seen.add((found.st_dev, found.st_ino))
        with os.scandir(place) as entries:
            for entry in entries:
                if is_folder(entry):
                    waiting.append(entry.path)
                elif not entry.name.startswith('.') and (
                    not endings or entry.name.lower().endswith(tuple(endings))
                ):
                    yield entry


def regular(entry: os.DirEntry) -> bool:
    """Whether an entry is a file or a link to one; False for a loop."""
    try:
        return entry.is_file()
    except OSError:
        return False


def is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder or a link to one; False for a loop."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def check_regular(paths: Sequence[str], where: str | PathLike) -> None:
    """Refuse entries that have the name of a file and are none.

    Args:
        paths (Sequence[str]): Entries that are no regular file.
        where (str | PathLike): The folder, for the message.

    Raises:
        DatasetLayoutError: If there are any, with the first three.
    """
    if not paths:
        return
    some = [f'{path!r} {no_file(path)}' for path in paths[:SHOWN]]
    raise DatasetLayoutError(
        f'{Path(where).absolute()}: {len(paths)} entries are named like '
        f'files and are none: {"; ".join(some)}. Replace or remove them.'
    )


def nearest_parent(folder: Path) -> str:
    """Say which parent exists and what it holds, for a missing folder."""
    for parent in folder.absolute().parents:
        if parent.is_dir():
            held = sorted(path.name for path in islice(parent.iterdir(), 8))
            return f' ({parent} holds {", ".join(held) or "nothing"})'
    return ''


def spread(items: Sequence, number: int) -> Sequence:
    """Take about so many items, evenly spread; 0 takes none."""
    return items[:: max(1, len(items) // number)] if number else items[:0]


def some(names: Sequence[object]) -> str:
    """Show the first three, as Python writes them."""
    more = ', ...' if len(names) > SHOWN else ''
    return ', '.join(map(repr, names[:SHOWN])) + more
