"""Names what a classification folder holds before training trips over it.

Expected is one folder per class with images in it, at any depth:
``train/<class>/*.jpg`` and ``val/<class>/*.jpg``. Labels are positions in a
list of class folders, so one folder too many or too few shifts every label
behind it, and nothing but a bad score would tell.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from os import PathLike
from pathlib import Path

from mmscope.errors import DatasetLayoutError

from .files import (
    check_regular,
    is_folder,
    nearest_parent,
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
