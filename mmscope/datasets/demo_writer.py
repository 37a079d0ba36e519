"""Writes rendered scenes to disk in the exact layout of ADE20K."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from .demo_scenes import render_scene

FOLDER = 'ADEChallengeData2016'
# Also tells our folder from a downloaded one.
RECIPE_FILE = 'demo_scenes.json'
CATEGORIES_FILE = 'sceneCategories.txt'
SPLITS = {'training': 'ADE_train', 'validation': 'ADE_val'}


def write_scenes(
    out: str | Path,
    train: int = 200,
    val: int = 60,
    height: int = 192,
    width: int = 256,
    seed: int = 0,
    cluttered: float = 0.5,
) -> Path:
    """Write the data set unless the same one is there already, complete.

    One of another recipe is replaced when the new one is complete.

    Scene i of a split depends on the seed, the split and i alone: a larger
    set begins with the scenes of a smaller one.

    Args:
        out (str | Path): Folder in which ``ADEChallengeData2016`` is made.
        train (int): Training scenes. Defaults to 200.
        val (int): Validation scenes. Defaults to 60.
        height (int): Rows. Defaults to 192.
        width (int): Columns. Defaults to 256.
        seed (int): Seed of every random choice. Defaults to 0.
        cluttered (float): Share of cluttered scenes. Defaults to 0.5.

    Returns:
        Path: The written ``ADEChallengeData2016``.

    Raises:
        FileExistsError: If another data set is in the way, or files that
            this function did not write lie in ours.
    """
    root = Path(out) / FOLDER
    recipe = {
        'train': train,
        'val': val,
        'height': height,
        'width': width,
        'seed': seed,
        'cluttered': cluttered,
    }
    if root.exists() and _is_complete(root, recipe):
        return root
    _clear(root.parent)
    # Renamed when complete, so an interrupted run leaves no half data set;
    # each process has its own.
    draft = root.with_name(f'.{FOLDER}.{os.getpid()}.part')
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _write(draft, recipe)
        _replace(root, draft)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return root


def _clear(out: Path) -> None:
    """Remove what writers left that were killed."""
    ours = re.compile(rf'\.{FOLDER}(?:\.(\d+))?\.(?:part|old)')
    for left in out.glob(f'.{FOLDER}.*'):
        name = ours.fullmatch(left.name)
        if name and not (name[1] and _is_alive(int(name[1]))):
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Of another user.
        return True
    return True


def _write(root: Path, recipe: dict) -> None:
    lines = []
    for split, key in (('training', 'train'), ('validation', 'val')):
        lines += _write_split(root, split, recipe[key], recipe)
    (root / CATEGORIES_FILE).write_text('\n'.join(lines) + '\n')
    (root / RECIPE_FILE).write_text(json.dumps(recipe, indent=2) + '\n')


def _replace(root: Path, new: Path) -> None:
    """Put a data set in the place of another.

    That is renamed before it is removed: half of it would look foreign.
    """
    old = new.with_suffix('.old')
    while new.exists():
        shutil.rmtree(old, ignore_errors=True)
        with suppress(FileNotFoundError):
            root.rename(old)
        try:
            new.rename(root)
        except OSError as error:
            # Unless another writer was quicker, whose one is replaced.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    shutil.rmtree(old, ignore_errors=True)


def _is_complete(root: Path, recipe: dict) -> bool:
    """Tell whether a folder holds all of a recipe, and nothing of others."""
    if not (root / RECIPE_FILE).is_file():
        raise FileExistsError(
            f'{root} exists and was not written by this tool. Choose another '
            'folder, nothing was changed.'
        )
    written = json.loads((root / RECIPE_FILE).read_text())
    found = {
        str(path.relative_to(root))
        for path in root.rglob('*')
        if not path.is_dir()
    }
    expected = set(_files(written))
    if foreign := sorted(found - expected):
        raise FileExistsError(
            f'{root} holds {foreign[0]}, which this tool did not write. Move '
            'it, or choose another folder; nothing was changed.'
        )
    return written == recipe and found == expected


def _files(recipe: dict) -> Iterator[str]:
    """Name all files of a recipe, from the data set's folder."""
    yield from (RECIPE_FILE, CATEGORIES_FILE)
    for split, key in (('training', 'train'), ('validation', 'val')):
        for index in range(1, recipe[key] + 1):
            yield f'images/{split}/{_stem(split, index)}.jpg'
            yield f'annotations/{split}/{_stem(split, index)}.png'


def _stem(split: str, index: int) -> str:
    return f'{SPLITS[split]}_{index:08d}'


def _write_split(
    root: Path, split: str, count: int, recipe: dict
) -> list[str]:
    """Write one split and return its lines of ``sceneCategories.txt``."""
    images, masks = root / 'images' / split, root / 'annotations' / split
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    lines = []
    for index in range(1, count + 1):
        rng = np.random.default_rng(
            [recipe['seed'], list(SPLITS).index(split), index]
        )
        cluttered = bool(rng.random() < recipe['cluttered'])
        image, mask = render_scene(
            rng, recipe['height'], recipe['width'], cluttered
        )
        stem = _stem(split, index)
        image.save(images / f'{stem}.jpg', quality=92)
        mask.save(masks / f'{stem}.png')
        lines.append(f'{stem} {"cluttered" if cluttered else "plain"}')
    return lines
