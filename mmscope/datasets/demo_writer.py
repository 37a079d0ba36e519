"""Writes rendered scenes to disk in the exact layout of ADE20K."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
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
    # Renamed when complete, so an interrupted run leaves no half data set.
    draft = root.with_name(f'.{FOLDER}.part')
    shutil.rmtree(draft, ignore_errors=True)
    lines = []
    for split, count in (('training', train), ('validation', val)):
        lines += _write_split(draft, split, count, recipe)
    (draft / CATEGORIES_FILE).write_text('\n'.join(lines) + '\n')
    (draft / RECIPE_FILE).write_text(json.dumps(recipe, indent=2) + '\n')
    shutil.rmtree(root, ignore_errors=True)
    draft.rename(root)
    return root


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
