"""Lists of class folders and of images, read in the one way they can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from mmscope.errors import DatasetLayoutError

from .files import no_file, read_lines, some, spread


def read_class_list(
    path: str | PathLike, folders: Sequence[str]
) -> tuple[str, ...]:
    """Read the names of class folders, one per line.

    A line is a name, or a name and a comment behind a blank: whichever is a
    folder. Behind a TAB it is always a comment.

    Args:
        path (str | PathLike): Text file in UTF-8.
        folders (Sequence[str]): Class folders that are there.

    Returns:
        tuple[str, ...]: Names in the order of the labels, absent ones as
        they stand there.

    Raises:
        DatasetLayoutError: If the file is absent, no UTF-8 or empty, names a
            class twice, or a line may mean either of two folders.
    """
    lines = read_lines(path, 'class list', 'the name of one class folder')
    where = f'class list {Path(path).expanduser().absolute()}'
    names = tuple(
        _class_name(line, set(folders), f'{where}, line {number}')
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice or not names:
        problem = f'names {some(twice)} twice' if twice else 'is empty'
        raise DatasetLayoutError(
            f'{where} {problem}: expected the name of one class folder per '
            'line'
        )
    return names


def read_names(path: str | PathLike, kind: str, wanted: str) -> list[str]:
    """Read a list in which each line is a name, as it stands.

    Args:
        path (str | PathLike): Text file in UTF-8.
        kind (str): What messages call it, such as 'class list'.
        wanted (str): What each line should hold, for the messages.

    Returns:
        list[str]: A name a line.

    Raises:
        DatasetLayoutError: If the file is absent, no UTF-8 or empty, or a
            line is empty, or begins or ends with a blank.
    """
    lines = read_lines(path, kind, wanted)
    while lines and not lines[-1]:
        lines.pop()
    odd = [n for n, line in enumerate(lines, 1) if line != line.strip()]
    odd += [n for n, line in enumerate(lines, 1) if not line]
    if not lines or odd:
        number = min(odd, default=0)
        problem = (
            f'line {number} is {lines[number - 1]!r}' if odd else 'is empty'
        )
        raise DatasetLayoutError(
            f'{kind} {Path(path).expanduser().absolute()}: {problem}, '
            f'expected {wanted} on each line, and no blanks around it'
        )
    return lines


def read_classes(path: str | PathLike) -> list[str]:
    """Read a file of class names; see :func:`read_names`."""
    return read_names(path, 'class list', 'the name of a class')


def _class_name(line: str, folders: set[str], where: str) -> str:
    name, tab, _ = line.partition('\t')
    if tab and name:
        return name
    readings = dict.fromkeys([line, line.strip(), line.split()[0]])
    present = [name for name in readings if name in folders]
    if len(present) > 1:
        raise DatasetLayoutError(
            f'{where}: {line!r} may mean the folder {present[0]!r} or '
            f'{present[1]!r}. Write a TAB behind the name'
        )
    return present[0] if present else line


def read_image_list(
    path: str | PathLike,
    folder: str | PathLike,
    num_classes: int | None = None,
    num_samples: int = 100,
) -> list[tuple[str, int]]:
    """Read a list of images with their labels.

    Args:
        path (str | PathLike): Text file in UTF-8, 'path label' on each line:
            what stands before the last blank is the path as it is.
        folder (str | PathLike): What the paths are relative to.
        num_classes (int | None): Labels are below it. Defaults to None, any.
        num_samples (int): Files to look for, spread evenly. Defaults to 100.

    Returns:
        list[tuple[str, int]]: Path and label.

    Raises:
        DatasetLayoutError: If the list is absent, no UTF-8 or empty, a line
            is no path with a label, or an image is missing.
    """
    rows = []
    lines = read_lines(path, 'image list', "'path label'")
    for number, line in enumerate(lines, start=1):
        name, _, label = line.rpartition(' ')
        if not line.strip():
            continue
        if not name or not (label.isascii() and label.isdecimal()):
            raise DatasetLayoutError(
                f"{path}, line {number}: expected 'path label' with a "
                f'number from 0 as label, got {line!r}'
            )
        if num_classes is not None and int(label) >= num_classes:
            raise DatasetLayoutError(
                f'{path}, line {number}: label {label} of {name!r}, expected '
                f'0 to {num_classes - 1}: the data set has {num_classes} '
                'classes'
            )
        rows.append((name, int(label)))
    if not rows:
        raise DatasetLayoutError(
            f'image list {Path(path).absolute()} is empty'
        )
    for name, _ in spread(rows, num_samples):
        if problem := no_file(Path(folder, name)):
            raise DatasetLayoutError(
                f'{path} names {name!r}, but {Path(folder, name).absolute()} '
                f'{problem}: the paths are relative to data_root and '
                'data_prefix'
            )
    return rows
