"""Files of a folder that are all there in the end, or none, and are new.

The first of them is written last and gets its name last: where it is, all
are. A process that is killed earlier leaves its draft as a mark, by which the
next one knows what it may remove.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mmscope.errors import UserError
from mmscope.runtime import alone_in

ELSEWHERE = 'name another folder, or wait for it; nothing was written'


def check_free(folder: str | Path, names: Iterable[str]) -> None:
    """Refuse a place where files would overwrite others.

    Args:
        folder (str | Path): Where they shall lie.
        names (Iterable[str]): Theirs; what a killed :func:`write_files` of
            the same left is not in the way.

    Raises:
        UserError: Naming what is in the way.
    """
    folder, names = Path(folder), [*names]
    if folder.exists() and not folder.is_dir():
        raise UserError(
            f'{folder} is a file, expected a folder: name another one, '
            'nothing was written'
        )
    left = _leftovers(folder, names)
    # A link that leads nowhere is in the way, too.
    paths = [folder / name for name in names]
    taken = [p.name for p in paths if os.path.lexists(p) and p not in left]
    if taken:
        told = ' and '.join(taken)
        raise UserError(
            f'{folder} holds {told} already: choose another folder, or move '
            f'{told} away; nothing was written'
        )


def write_files(folder: str | Path, contents: dict[str, bytes]) -> Path:
    """Write files, each complete before it gets its name.

    Args:
        folder (str | Path): Made where absent.
        contents (dict[str, bytes]): By name, see :func:`check_free`; the
            first is what tells others that all are there.

    Returns:
        Path: The folder.

    Raises:
        UserError: If a file is in the way, another process writes there, or
            they cannot be written; none of them is left.
    """
    folder = Path(folder)
    check_free(folder, contents)
    is_new = not folder.exists()
    try:
        # By the folder itself: a file of ours would be published, too.
        with alone_in(folder, 'process', ELSEWHERE, name=''):
            # Another one may have been here meanwhile.
            check_free(folder, contents)
            _write(folder, contents, is_new)
    except OSError as error:
        raise UserError(
            f'{folder} cannot be written to ({error}): make room, or name '
            'another folder; nothing was written'
        ) from error
    return folder


def _write(folder: Path, contents: dict[str, bytes], is_new: bool) -> None:
    written: list[Path] = []
    try:
        _remove_leftovers(folder, [*contents])
        for name in reversed(contents):
            written.append(_draft(folder, name))
            written[-1].write_bytes(contents[name])
        for name in reversed(contents):
            # Noted before it is done, as an interruption comes at any time;
            # in front, as what goes last is the mark.
            written.insert(0, folder / name)
            _draft(folder, name).rename(folder / name)
    except BaseException:
        # An interruption leaves nothing, either.
        with suppress(OSError):
            for path in written:
                path.unlink(missing_ok=True)
            if is_new:
                folder.rmdir()
        raise


def _leftovers(folder: Path, names: list[str]) -> list[Path]:
    """Find files to which a killed process gave their names already.

    It gave none before all drafts were there, the first file's as the last
    one, and their drafts are gone. A file of others has never had one.
    """
    first, *others = names
    if os.path.lexists(folder / first) or not _draft(folder, first).exists():
        return []
    return [
        folder / name
        for name in others
        if _is_plain(folder / name) and not _draft(folder, name).exists()
    ]


def _remove_leftovers(folder: Path, names: list[str]) -> None:
    for left in _leftovers(folder, names):
        left.unlink()
    for name in reversed(names):
        _draft(folder, name).unlink(missing_ok=True)


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _draft(folder: Path, name: str) -> Path:
    return folder / f'.{name}.part'
