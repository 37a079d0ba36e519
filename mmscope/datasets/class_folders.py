"""Names what a classification folder holds before training trips over it.

Expected is one folder per class with images in it, at any depth:
``train/<class>/*.jpg`` and ``val/<class>/*.jpg``. Labels are positions in a
list of class folders, so one folder too many or too few shifts every label
behind it, and nothing but a bad score would tell.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from os import PathLike
from pathlib import Path

from mmscope.errors import DatasetLayoutError

from .files import (
    check_regular,
    is_folder,
    nearest_parent,
    no_file,
    read_lines,
    regular,
    some,
    walk_files,
)

ARCHIVES = ('.tar', '.tar.gz', '.tgz', '.zip')
FIX = (
    'Expected train/<class>/<image> and val/<class>/<image>; set data_root '
    'to the folder that holds train and val (configs/imagenet read it from '
    'MMSCOPE_IMAGENET, configs/miniimagenet from MMSCOPE_MINIIMAGENET)'
)
SORT_FIX = (
    'ImageNet ships its validation images in one flat folder: sort them '
    'with python tools/dataset_converters/sort_by_class.py FOLDER LIST, '
    'where LIST has one line per image, its name and its class'
)


def list_class_folders(
    folder: str | PathLike, extensions: Sequence[str]
) -> tuple[str, ...]:
    """List the class folders of one split, or say what is wrong with it.

    Args:
        folder (str | PathLike): The split, such as ``imagenet/train``.
        extensions (Sequence[str]): Endings of images, in lower case.

    Returns:
        tuple[str, ...]: Sorted names; hidden folders are none.

    Raises:
        DatasetLayoutError: If the folder is absent or empty, images lie
            beside the class folders or without any, archives are still
            packed, a link is broken, or everything lies one level too deep.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetLayoutError(
            f'{folder.absolute()} does not exist{nearest_parent(folder)}. '
            f'{_deeper(folder) or FIX}.'
        )
    names, loose, others = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_folder(entry):
                names += [entry.name] * (not entry.name.startswith('.'))
            else:
                (loose if regular(entry) else others).append(entry.name)
    check_regular([str(folder / name) for name in others], folder)
    _check_loose_files(folder, names, loose, tuple(extensions))
    _check_depth(folder, names, tuple(extensions))
    return tuple(sorted(names))


def check_same_classes(
    folder: str | PathLike,
    found: Sequence[str],
    expected: Sequence[str],
    source: str | PathLike,
) -> None:
    """Check that a split has exactly the class folders that give labels.

    Args:
        folder (str | PathLike): The split.
        found (Sequence[str]): Its class folders.
        expected (Sequence[str]): Those that the labels count.
        source (str | PathLike): Where the expected ones come from.

    Raises:
        DatasetLayoutError: Naming what is missing and what is too many.
    """
    missing = sorted(set(expected) - set(found))
    extra = sorted(set(found) - set(expected))
    if not missing and not extra:
        return
    parts = []
    if missing:
        parts.append(
            f'lacks {len(missing)} of the {len(expected)} class folders of '
            f'{source} ({some(missing)})'
        )
    if extra:
        parts.append(
            f'has {len(extra)} class folders that {source} lacks '
            f'({some(extra)})'
        )
    raise DatasetLayoutError(
        f'{Path(folder).absolute()} {" and ".join(parts)}. Labels count the '
        'class folders in order, so both must hold the same ones.'
    )


def find_images(
    folder: str | PathLike, names: Sequence[str], extensions: Sequence[str]
) -> list[tuple[str, int]]:
    """List every image of the class folders with its label.

    Args:
        folder (str | PathLike): The split.
        names (Sequence[str]): Class folders in the order of the labels.
        extensions (Sequence[str]): Endings of images, in lower case.

    Returns:
        list[tuple[str, int]]: Path and label, sorted by label and path.

    Raises:
        DatasetLayoutError: If a class folder holds no image, or what has
            the name of one is a broken link or a pipe.
    """
    samples, empty, others = [], [], []
    for label, name in enumerate(names):
        entries = list(walk_files(os.path.join(folder, name), extensions))
        others += [e.path for e in entries if not regular(e)]
        samples += [(path, label) for path in sorted(e.path for e in entries)]
        if not entries:
            empty.append(name)
    check_regular(sorted(others), folder)
    if empty:
        raise DatasetLayoutError(
            f'{Path(folder).absolute()}: {len(empty)} of {len(names)} class '
            f'folders hold no image ({some(empty)}); images end in '
            f'{", ".join(sorted(extensions))}. Put images there, or remove '
            'these folders from every split.'
        )
    return samples


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
    for name, _ in rows[:: max(1, len(rows) // num_samples)]:
        if problem := no_file(Path(folder, name)):
            raise DatasetLayoutError(
                f'{path} names {name!r}, but {Path(folder, name).absolute()} '
                f'{problem}: the paths are relative to data_root and '
                'data_prefix'
            )
    return rows


def _check_loose_files(
    folder: Path, names: list[str], loose: list[str], endings: tuple
) -> None:
    images = [name for name in loose if name.lower().endswith(endings)]
    packed = [name for name in loose if name.lower().endswith(ARCHIVES)]
    if packed:
        raise DatasetLayoutError(
            f'{folder.absolute()} holds {len(packed)} packed archives '
            f'({some(sorted(packed))}): unpack each into a folder of its '
            'name, then move the archives away.'
        )
    if images:
        beside = f'beside {len(names)} class folders' if names else 'directly'
        raise DatasetLayoutError(
            f'{folder.absolute()} holds {len(images)} images {beside} '
            f'({some(sorted(images))}), expected them in one folder per '
            f'class. {SORT_FIX}.'
        )
    if not names:
        held = f'files ({some(sorted(loose))})' if loose else 'nothing'
        raise DatasetLayoutError(
            f'{folder.absolute()} holds no class folder, found {held}. {FIX}.'
        )


def _check_depth(folder: Path, names: list[str], endings: tuple) -> None:
    """Refuse a single folder that holds folders: an archive's own root."""
    if len(names) > 1:
        return
    inside = folder / names[0]
    below = [path.name for path in islice(inside.iterdir(), 99)]
    folders = sorted(name for name in below if (inside / name).is_dir())
    images = any(name.lower().endswith(endings) for name in below)
    if folders and not images:
        raise DatasetLayoutError(
            f'{folder.absolute()} holds one folder, {names[0]!r}, and the '
            f'class folders ({some(folders)}) lie one level too deep: move '
            f'them from {inside.absolute()} to {folder.absolute()}, or set '
            'data_prefix.'
        )


def _deeper(folder: Path) -> str:
    """Say where the split lies if it is up to three levels further down."""
    root = folder.absolute().parent
    for depth in range(1, 4):
        for found in islice(root.glob(f'{"*/" * depth}{folder.name}'), 1):
            return (
                f'{found} exists, so the data lies further down: set '
                f'data_root to {found.parent}'
            )
    return ''
