"""Files that others see either as they were or complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def drafted(path: str | Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of another in the end.

    A disk that fills up, a kill and an exception leave what was there before.
    What is no file, such as a pipe, is written to itself.

    Args:
        path (str | Path): File; its folder is made, a link is followed.

    Yields:
        Path: Beside it.
    """
    path = Path(path)
    if path.is_symlink():
        path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        yield path
        return
    draft = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        yield draft
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_whole(path: str | Path, text: str) -> None:
    """Write text, see :func:`drafted`.

    Args:
        path (str | Path): File.
        text (str): Written as UTF-8.
    """
    with drafted(path) as draft:
        draft.write_text(text, encoding='utf-8')
