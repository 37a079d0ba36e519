"""Files of a folder that are all there in the end, or none, and are new."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mmscope.errors import UserError


def check_free(folder: str | Path, names: Iterable[str]) -> None:
    """Refuse a place where files would overwrite others.

    Args:
        folder (str | Path): Where they shall lie.
        names (Iterable[str]): Theirs.

    Raises:
        UserError: Naming what is in the way.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(
            f'{folder} is a file, expected a folder: name another one, '
            'nothing was written'
        )
    # A link that leads nowhere is in the way, too.
    if taken := [name for name in names if os.path.lexists(folder / name)]:
        raise UserError(
            f'{folder} holds {" and ".join(taken)} already: choose another '
            'folder, nothing was written'
        )


def write_files(folder: str | Path, contents: dict[str, bytes]) -> Path:
    """Write files, each complete before it gets its name.

    Args:
        folder (str | Path): Made where absent.
        contents (dict[str, bytes]): By name, see :func:`check_free`.

    Returns:
        Path: The folder.

    Raises:
        UserError: If they cannot be written; none of them is left.
    """
    folder = Path(folder)
    is_new = not folder.exists()
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            written.append(_draft(folder, name))
            written[-1].write_bytes(content)
        for name in contents:
            _draft(folder, name).rename(folder / name)
            written.append(folder / name)
    except BaseException as error:
        # An interruption leaves nothing, either.
        with suppress(OSError):
            for path in written:
                path.unlink(missing_ok=True)
            if is_new:
                folder.rmdir()
        if not isinstance(error, OSError):
            raise
        raise UserError(
            f'{folder} cannot be written to ({error}): make room, or name '
            'another folder; nothing was written'
        ) from error
    return folder


def _draft(folder: Path, name: str) -> Path:
    return folder / f'.{name}.part'
