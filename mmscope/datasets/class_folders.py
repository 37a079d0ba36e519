"""Names what a classification folder holds before training trips over it.

Expected is one folder per class with images in it, at any depth:
``train/<class>/*.jpg`` and ``val/<class>/*.jpg``. Labels are positions in a
list of class folders, so one folder too many or too few shifts every label
behind it, and nothing but a bad score would tell.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from os import PathLike
from pathlib import Path

from mmscope.errors import DatasetLayoutError

from .layout import nearest_parent

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
            packed, or everything lies one level too deep.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetLayoutError(
            f'{folder.absolute()} does not exist{nearest_parent(folder)}. '
            f'{_deeper(folder) or FIX}.'
        )
    names, loose = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir() and not entry.name.startswith('.'):
                names.append(entry.name)
            elif entry.is_file():
                loose.append(entry.name)
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
            f'{source} ({_some(missing)})'
        )
    if extra:
        parts.append(
            f'has {len(extra)} class folders that {source} lacks '
            f'({_some(extra)})'
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
        DatasetLayoutError: If a class folder holds no image.
    """
    samples, empty = [], []
    for label, name in enumerate(names):
        place = os.path.join(folder, name)
        paths = sorted(_walk_images(place, tuple(extensions)))
        samples += [(path, label) for path in paths]
        if not paths:
            empty.append(name)
    if empty:
        raise DatasetLayoutError(
            f'{Path(folder).absolute()}: {len(empty)} of {len(names)} class '
            f'folders hold no image ({_some(empty)}); images end in '
            f'{", ".join(sorted(extensions))}. Put images there, or remove '
            'these folders from every split.'
        )
    return samples


def read_class_list(path: str | PathLike) -> tuple[str, ...]:
    """Read the names of class folders, one per line.

    Args:
        path (str | PathLike): Text file; what follows the first blank of a
            line is a comment.

    Returns:
        tuple[str, ...]: Names in the order of the labels.

    Raises:
        DatasetLayoutError: If the file is absent, empty or names a class
            twice.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise DatasetLayoutError(
            f'class list {path.absolute()} does not exist'
            f'{nearest_parent(path)}: expected a text file with the name of '
            'one class folder per line'
        )
    lines = (line.split() for line in path.read_text().splitlines())
    names = tuple(words[0] for words in lines if words)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise DatasetLayoutError(
            f'class list {path.absolute()} '
            + (f'names {_some(twice)} twice' if twice else 'is empty')
            + ': expected the name of one class folder per line'
        )
    return names


def check_image_list(
    path: str | PathLike, folder: str | PathLike, num_samples: int = 100
) -> None:
    """Check a list of images with their labels.

    Args:
        path (str | PathLike): Text file, 'path label' on each line.
        folder (str | PathLike): What the paths are relative to.
        num_samples (int): Files to look for, spread evenly. Defaults to 100.

    Raises:
        DatasetLayoutError: If the list is absent or empty, a line is no path
            with a label, or an image is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetLayoutError(
            f'image list {path.absolute()} does not exist'
            f"{nearest_parent(path)}: expected 'path label' on each line"
        )
    rows = [line.rsplit(' ', 1) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows, start=1):
        if len(row) != 2 or not row[1].isdigit():
            raise DatasetLayoutError(
                f"{path}, line {number}: expected 'path label' with a "
                f'number from 0 as label, got {" ".join(row)!r}'
            )
    if not rows:
        raise DatasetLayoutError(f'image list {path.absolute()} is empty')
    for name, _ in rows[:: max(1, len(rows) // num_samples)]:
        if not Path(folder, name).is_file():
            raise DatasetLayoutError(
                f'{path} names {name}, but {Path(folder, name).absolute()} '
                'does not exist: the paths are relative to data_root and '
                'data_prefix'
            )


def _check_loose_files(
    folder: Path, names: list[str], loose: list[str], endings: tuple
) -> None:
    images = [name for name in loose if name.lower().endswith(endings)]
    packed = [name for name in loose if name.lower().endswith(ARCHIVES)]
    if packed:
        raise DatasetLayoutError(
            f'{folder.absolute()} holds {len(packed)} packed archives '
            f'({_some(sorted(packed))}): unpack each into a folder of its '
            'name, then move the archives away.'
        )
    if images:
        beside = f'beside {len(names)} class folders' if names else 'directly'
        raise DatasetLayoutError(
            f'{folder.absolute()} holds {len(images)} images {beside} '
            f'({_some(sorted(images))}), expected them in one folder per '
            f'class. {SORT_FIX}.'
        )
    if not names:
        held = f'files ({_some(sorted(loose))})' if loose else 'nothing'
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
            f'{folder.absolute()} holds one folder, {names[0]}, and the '
            f'class folders ({_some(folders)}) lie one level too deep: move '
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


def _walk_images(folder: str, endings: tuple[str, ...]) -> Iterator[str]:
    for place, _, files in os.walk(folder, followlinks=True):
        for name in files:
            if name.lower().endswith(endings) and not name.startswith('.'):
                yield os.path.join(place, name)


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
