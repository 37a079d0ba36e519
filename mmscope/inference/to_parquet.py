"""Many image files to one table, which goes on where it was stopped."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import compress
from pathlib import Path
from typing import Any

from mmscope.errors import UserError
from mmscope.inference.engine import TwoStageEngine
from mmscope.inference.image_names import SUFFIXES, image_names, printable
from mmscope.inference.part_files import NameSet, PartFiles
from mmscope.inference.progress import Progress
from mmscope.inference.rows import Row

# Seconds of work that a kill may cost at most, however slow images are.
FLUSH_SECONDS = 60.0
MakeRow = Callable[[str, Any], Row]
MakeRows = Callable[[Iterable[str]], Iterator[Row]]


def predict_to_parquet(
    predict: MakeRows,
    source: str | Path,
    out: str | Path,
    columns: dict[str, str],
    settings: dict[str, Any],
    rows_per_file: int = 1000,
) -> Progress:
    """Predict every image of a folder or a list that has no row yet.

    Args:
        predict (Callable): Makes rows of names, in their order, such as
            :func:`rows_of_engine`.
        source (str | Path): See :func:`image_names`.
        out (str | Path): Folder of Parquet files, see :class:`PartFiles`.
        columns (dict[str, str]): See :class:`PartFiles`.
        settings (dict): What decides the results; see :class:`PartFiles`.
        rows_per_file (int): Rows of a file. Defaults to 1000.

    Returns:
        Progress: Of the images of this source, earlier rows included. Rows
        of others that the table also has, such as those of another list
        beside the first, are counted apart.

    Raises:
        UserError: See :func:`image_names` and :class:`PartFiles`; if there
            are no images.
    """
    if next(iter(image_names(source)), None) is None:
        raise UserError(
            f'{source} has no images: a folder needs files that end in '
            f'{", ".join(SUFFIXES)}, a text file one path a line'
        )
    with closing(PartFiles(out, columns, settings)) as parts:
        asked = NameSet(map(printable, image_names(source)))
        progress = Progress(len(asked))
        for part in parts.columns('name', 'exited', 'gmacs', 'error'):
            progress.resume(**_of_source(part, asked, progress))
        done = parts.done()
        names = (n for n in image_names(source) if printable(n) not in done)
        _write(predict(names), parts, progress, rows_per_file)
    return progress


def rows_of_engine(
    engine: TwoStageEngine,
    make_row: MakeRow,
    folder: Path,
    names: Iterable[str],
) -> Iterator[Row]:
    """Predict images here.

    Args:
        engine (TwoStageEngine): Reads paths.
        make_row (Callable): Makes a row of a name and a result.
        folder (Path): What names are relative to.
        names (Iterable[str]): Read as they are wanted.

    Yields:
        dict: Rows, in the order of the names.
    """
    asked: deque[str] = deque()

    def paths() -> Iterator[Path]:
        for name in names:
            asked.append(name)
            yield folder / name

    with closing(engine(paths())) as results:
        for result in results:
            yield make_row(printable(asked.popleft()), result)


def _of_source(
    part: dict[str, list[Any]], asked: NameSet, progress: Progress
) -> dict[str, list[Any]]:
    """Choose the rows of images that were asked for; count the others."""
    kept = [name in asked for name in part.pop('name')]
    progress.others += kept.count(False)
    return {key: [*compress(rows, kept)] for key, rows in part.items()}


def _write(
    rows: Iterator[Row],
    parts: PartFiles,
    progress: Progress,
    rows_per_file: int,
) -> None:
    waiting: list[Row] = []
    written = time.monotonic()
    try:
        with closing(rows):
            for row in rows:
                waiting.append(row)
                progress.add_row(row)
                late = time.monotonic() - written > FLUSH_SECONDS
                if late or len(waiting) >= rows_per_file:
                    # Let go of first: an interruption must not write twice.
                    full, waiting = waiting, []
                    parts.write(full)
                    written = time.monotonic()
    finally:
        # Whatever ended the run: these are done.
        parts.write(waiting)
