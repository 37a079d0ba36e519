"""Many image files to one table, which goes on where it was stopped."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from mmscope.inference.engine import TwoStageEngine
from mmscope.inference.image_names import folder_of, image_names, printable
from mmscope.inference.part_files import DoneNames, PartFiles
from mmscope.inference.progress import Progress
from mmscope.inference.rows import Row, columns_of, row_of

# Seconds of work that a kill may cost at most, however slow images are.
FLUSH_SECONDS = 60.0


def predict_to_parquet(
    engine: TwoStageEngine,
    source: str | Path,
    out: str | Path,
    scope: str,
    classes: Sequence[str],
    settings: dict[str, Any],
    rows_per_file: int = 1000,
) -> Progress:
    """Predict every image of a folder or a list that has no row yet.

    Args:
        engine (TwoStageEngine): Reads paths.
        source (str | Path): See :func:`image_names`.
        out (str | Path): Folder of Parquet files, see :class:`PartFiles`.
        scope (str): Host of the model: 'mmpretrain', 'mmseg' or 'mmdet'.
        classes (Sequence[str]): Names by label.
        settings (dict): What decides the results; see :class:`PartFiles`.
        rows_per_file (int): Rows of a file. Defaults to 1000.

    Returns:
        Progress: Of all rows, earlier ones included.

    Raises:
        UserError: See :func:`image_names` and :class:`PartFiles`.
    """
    columns = columns_of(scope)
    settings = {**settings, 'classes': [*classes]}
    with closing(PartFiles(out, columns, settings)) as parts:
        progress = Progress(sum(1 for _ in image_names(source)))
        for part in parts.columns('exited', 'gmacs', 'error'):
            progress.resume(**part)
        rows = _rows(engine, source, parts.done(), scope, classes)
        _write(rows, parts, progress, rows_per_file)
    return progress


def _rows(
    engine: TwoStageEngine,
    source: str | Path,
    done: DoneNames,
    scope: str,
    classes: Sequence[str],
) -> Iterator[Row]:
    folder = folder_of(source)
    asked: deque[str] = deque()

    def paths() -> Iterator[Path]:
        for name in image_names(source):
            shown = printable(name)
            if shown not in done:
                asked.append(shown)
                yield folder / name

    with closing(engine(paths())) as results:
        for result in results:
            # In the order of the paths.
            yield row_of(asked.popleft(), result, scope, classes)


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
                progress.add(row)
                late = time.monotonic() - written > FLUSH_SECONDS
                if late or len(waiting) >= rows_per_file:
                    # Let go of first: an interruption must not write twice.
                    full, waiting = waiting, []
                    parts.write(full)
                    written = time.monotonic()
    finally:
        # Whatever ended the run: these are done.
        parts.write(waiting)
