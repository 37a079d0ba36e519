"""A table that grows by whole files, and survives a kill at any moment.

``results.parquet`` is a folder, which pandas, Polars, DuckDB and Spark read
as one table, at any moment. A part is written beside the folder, brought to
the disk and renamed, so that it is there completely or not at all; what is
there says which images are done.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mmscope.errors import UserError
from mmscope.inference.image_names import name_key
from mmscope.inference.rows import Row
from mmscope.runtime.folder_lock import FolderLock

SETTINGS = b'mmscope'
FIX = "pip install 'mmscope[infer]' (or pyarrow)"


class PartFiles:
    """A folder of Parquet files that one process at a time adds to.

    Args:
        folder (str | Path): Made if it is missing.
        columns (dict[str, str]): Types by name, in the words of pyarrow.
        settings (dict): What made the rows, as JSON in every file; a folder
            that was made otherwise is refused.

    Raises:
        UserError: If pyarrow is missing, the folder is another process's, or
            was made with other settings.
    """

    def __init__(
        self,
        folder: str | Path,
        columns: dict[str, str],
        settings: dict[str, Any],
    ) -> None:
        try:
            import pyarrow.parquet
        except ImportError:
            raise UserError(f'Parquet files need pyarrow: {FIX}') from None
        self._arrow, self._parquet = pyarrow, pyarrow.parquet
        self.folder = Path(folder)
        if self.folder.is_file():
            raise UserError(
                f'{folder} is a file; the table is a folder of files: name '
                'another one'
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.folder)
        except BlockingIOError:
            raise UserError(
                f'another process is writing to {folder}: wait for it, or '
                'name another --out'
            ) from None
        except OSError as error:
            raise UserError(
                f'no table can be written to {folder} ({error}): name '
                'another --out'
            ) from error
        self._schema = pyarrow.schema(
            [(name, _type(pyarrow, kind)) for name, kind in columns.items()],
            {SETTINGS: json.dumps(settings, sort_keys=True)},
        )
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def paths(self) -> list[Path]:
        """List the files, in the order in which they were written."""
        return sorted(self.folder.glob('part-*.parquet'))

    def write(self, rows: list[Row]) -> None:
        """Add a file.

        Args:
            rows (list[dict]): Its rows; it is one row group.

        Raises:
            UserError: If the folder is not the one that was opened any more;
                nothing is written.
        """
        if not rows:
            return
        self._check_held()
        table = self._arrow.Table.from_pylist(rows, self._schema)
        try:
            with self._draft.open('wb') as file:
                self._parquet.write_table(
                    table, file, row_group_size=len(rows)
                )
                file.flush()
                os.fsync(file.fileno())
            self._check_held()
            self._draft.rename(self._next())
        finally:
            self._draft.unlink(missing_ok=True)
        _sync(self.folder)

    def _next(self) -> Path:
        paths = self.paths()
        number = int(paths[-1].stem[-6:]) + 1 if paths else 0
        return self.folder / f'part-{number:06}.parquet'

    def _check_held(self) -> None:
        """Refuse a folder that another process may have locked by now."""
        if not self._lock.holds():
            raise UserError(
                f'{self.folder}, or .lock in it, was removed or replaced '
                'while this process wrote to it: nothing more is written; '
                'let the folder be and start again, or name another --out'
            )

    def columns(self, *names: str) -> Iterator[dict[str, list[Any]]]:
        """Read some columns, a file at a time.

        Args:
            *names (str): Columns.

        Yields:
            dict[str, list]: Values by name.
        """
        for path in self.paths():
            table = self._parquet.read_table(path, columns=[*names])
            yield table.to_pydict()

    def done(self) -> NameSet:
        """Find out which images have a row."""
        return NameSet(
            name for part in self.columns('name') for name in part['name']
        )

    def close(self) -> None:
        """Let another process add to the folder."""
        self._lock.close()

    def _begin(self) -> None:
        folder = self.folder.resolve()
        for left in folder.glob('.part-*'):
            left.unlink()
        _remove_drafts(folder)
        self._draft = _place_of_drafts(folder)
        for path in self.paths():
            self._check(path)

    def _check(self, path: Path) -> None:
        """Refuse a file that was made otherwise."""
        try:
            found = self._parquet.read_schema(path).metadata or {}
        except Exception as error:
            raise UserError(
                f'{path} cannot be read ({error}): remove it, and its images '
                'are predicted again'
            ) from error
        theirs = json.loads(found.get(SETTINGS, b'{}'))
        ours = json.loads(self._schema.metadata[SETTINGS])
        keys = sorted({*theirs, *ours})
        odd = [key for key in keys if theirs.get(key) != ours.get(key)]
        if odd:
            told = '; '.join(
                f'{key} {theirs.get(key)!r}, now {ours.get(key)!r}'
                for key in odd
            )
            raise UserError(
                f'{self.folder} was made with other settings ({told}): name '
                'another --out, or go on with the same'
            )


class NameSet:
    """Names of images, eight bytes each.

    Args:
        names (Iterable[str]): As rows have them; read once.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._keys = np.sort(np.fromiter(map(name_key, names), np.uint64))

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, name: str) -> bool:
        key = np.uint64(name_key(name))
        place = np.searchsorted(self._keys, key)
        return place < len(self._keys) and self._keys[place] == key


def _type(arrow: Any, kind: str) -> Any:
    """Read 'list<float>' and the like."""
    if kind.startswith('list<'):
        return arrow.list_(_type(arrow, kind[len('list<') : -1]))
    return arrow.type_for_alias(kind)


def _place_of_drafts(folder: Path) -> Path:
    """Choose a file that can be renamed into a folder.

    Best one beside it: Polars and DuckDB take what lies in it for rows.
    """
    # A folder that is removed and made anew has two owners for a moment.
    number = os.getpid()
    inside = folder / f'.part-{number}'
    # Files that are made in such a folder get its group.
    if not folder.name or folder.stat().st_mode & stat.S_ISGID:
        return inside
    beside = folder.with_name(f'.{folder.name}.{number}.part')
    try:
        # Tried, as mounts of one device do not differ in anything else.
        beside.touch()
        beside.rename(inside)
        inside.unlink()
        return beside
    except OSError:
        with suppress(OSError):
            beside.unlink()
        return inside


def _remove_drafts(folder: Path) -> None:
    """Remove what killed processes left beside a folder."""
    # Exactly this folder's, not those of a.parquet.old beside a.parquet.
    name = re.compile(rf'\.{re.escape(folder.name)}\.\d+\.part')
    # Where nothing may be read or written, none of ours can lie.
    with suppress(OSError):
        for path in folder.parent.iterdir():
            if name.fullmatch(path.name):
                path.unlink()


def _sync(folder: Path) -> None:
    """Bring the names of a folder's files to the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
