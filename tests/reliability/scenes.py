"""Segmentation in CamVid's layout: written, damaged, and used."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from .mutations import (
    BROKEN_IMAGE,
    REFUSED,
    SAME,
    SOUND,
    Mutation,
    flip_bytes,
    in_mode,
    on_file,
    remove,
    resized,
    to_folder,
    to_link,
    turned,
)

NUM_CLASSES = 11
IMAGE, MASK = 'images/training/*.jpg', 'annotations/training/*.png'
PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {'type': 'LoadAnnotations'},
    {'type': 'RandomFlip', 'prob': 0.0},
    {'type': 'PackSegInputs'},
]


def write(root: Path) -> None:
    """Write four scenes of 32 x 24 pixels; the sky, class 1, is half."""
    rng = np.random.default_rng(0)
    for kind in ('images', 'annotations'):
        (root / kind / 'training').mkdir(parents=True)
    for i in range(4):
        ids = np.ones((24, 32), np.uint8)
        ids[12:] = np.arange(32) // 2 % 12
        pixels = np.stack([ids * 20] * 3, 2) + rng.integers(0, 9, (24, 32, 3))
        image = Image.fromarray(pixels.astype(np.uint8))
        image.save(root / 'images' / 'training' / f'{i}.jpg')
        mask = root / 'annotations' / 'training' / f'{i}.png'
        Image.fromarray(ids).save(mask)


def use(root: Path, rng: np.random.Generator) -> list:
    """Load every pair; returns what was loaded."""
    from mmscope.datasets import CamVidDataset

    dataset = CamVidDataset(
        data_root=str(root),
        data_prefix={
            'img_path': 'images/training',
            'seg_map_path': 'annotations/training',
        },
        pipeline=PIPELINE,
    )
    loaded = []
    for i in range(len(dataset)):
        info, sample = dataset.get_data_info(i), dataset[i]
        labels = sample['data_samples'].gt_sem_seg.data
        assert labels.shape[1:] == sample['inputs'].shape[1:], labels.shape
        with Image.open(info['seg_map_path']) as mask:
            wanted = np.asarray(mask).astype(int) - 1
        assert np.array_equal(labels[0], np.where(wanted < 0, 255, wanted))
        used = labels[labels != 255]
        assert not used.numel() or int(used.max()) < NUM_CLASSES
        loaded.append((sample['inputs'].numpy().tobytes(), wanted.tobytes()))
    return loaded


def _ids(change, every: bool = False):
    def apply(root: Path, rng: np.random.Generator) -> None:
        masks = sorted(p for p in root.glob(MASK) if p.is_file())
        for path in masks if every else masks[rng.integers(4) :][:1]:
            ids = np.array(Image.open(path)).astype(int)
            changed = Image.fromarray(change(ids, rng).astype(np.uint8))
            changed.save(path, 'PNG')

    return apply


def _one(value: int):
    def change(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        ids.flat[rng.integers(ids.size)] = value
        return ids

    return change


def _as_jpeg(path: Path, rng: np.random.Generator) -> None:
    Image.open(path).copy().save(path, 'JPEG')


def _palette(path: Path, rng: np.random.Generator) -> None:
    image = Image.open(path)
    image.load()
    image.putpalette(rng.integers(0, 256, 768).tolist())
    image.save(path)


def _as_png(path: Path, rng: np.random.Generator) -> None:
    Image.open(path).copy().save(path, 'PNG')


def _move(*pairs: tuple[str, str]):
    def apply(root: Path, rng: np.random.Generator) -> None:
        for old, new in pairs:
            (root / new).parent.mkdir(parents=True, exist_ok=True)
            if (root / old).exists():
                shutil.move(root / old, root / new)

    return apply


def _below(root: Path, rng: np.random.Generator) -> None:
    for kind, ending in (('images', 'jpg'), ('annotations', 'png')):
        place = root / kind / 'training'
        (place / 'day' / 'x').mkdir(parents=True)
        if (place / f'0.{ending}').exists():
            os.rename(place / f'0.{ending}', place / f'day/x/0.{ending}')


def _hidden(root: Path, rng: np.random.Generator) -> None:
    (root / 'images' / 'training' / '._0.jpg').write_bytes(b'x')
    (root / 'annotations' / 'training' / 'Thumbs.db').write_bytes(b'x')


def _loop(root: Path, rng: np.random.Generator) -> None:
    place = root / 'images' / 'training'
    (place / 'again').symlink_to(place)


def _ending(root: Path, rng: np.random.Generator) -> None:
    path = root / 'images' / 'training' / '1.jpg'
    if path.exists():
        path.rename(path.with_suffix('.JPG'))


FOLDERS = ('images/training', 'annotations/training')
MUTATIONS = [
    *(
        Mutation(f'{name} ({kind})', REFUSED, on_file(pattern, change))
        for name, change in {**BROKEN_IMAGE, 'absent': remove}.items()
        for kind, pattern in (('image', IMAGE), ('mask', MASK))
    ),
    Mutation('bytes flipped in image', SOUND, on_file(IMAGE, flip_bytes)),
    Mutation('bytes flipped in mask', SOUND, on_file(MASK, flip_bytes)),
    Mutation('folder with image name', REFUSED, on_file(IMAGE, to_folder)),
    Mutation('folder with mask name', REFUSED, on_file(MASK, to_folder)),
    Mutation('linked image', SAME, on_file(IMAGE, to_link)),
    Mutation('linked mask', SAME, on_file(MASK, to_link)),
    *(
        Mutation(f'image in mode {mode}', SOUND, on_file(IMAGE, in_mode(mode)))
        for mode in ('L', 'RGBA', 'I;16', 'P', 'LA', '1', 'CMYK')
    ),
    *(
        Mutation(f'mask in mode {mode}', REFUSED, on_file(MASK, in_mode(mode)))
        for mode in ('RGB', 'RGBA', 'I;16', 'LA', '1', 'CMYK', 'F')
    ),
    Mutation('palette in mask', SAME, on_file(MASK, _palette)),
    Mutation('mask is JPEG', REFUSED, on_file(MASK, _as_jpeg)),
    Mutation('image is PNG', SAME, on_file(IMAGE, _as_png)),
    Mutation('EXIF, half a turn', REFUSED, on_file(IMAGE, turned(2, 3, 4))),
    Mutation('EXIF, a quarter', REFUSED, on_file(IMAGE, turned(5, 6, 7, 8))),
    Mutation('image of another size', REFUSED, on_file(IMAGE, resized)),
    Mutation('mask of another size', REFUSED, on_file(MASK, resized)),
    *(
        Mutation(f'id {value} in a mask', REFUSED, _ids(_one(value)))
        for value in (12, 150, 254, 255)
    ),
    Mutation(
        'all ids one too low',
        REFUSED,
        _ids(lambda ids, rng: np.maximum(ids - 1, 0), every=True),
    ),
    Mutation(
        'all ids from 0, 255 for none',
        REFUSED,
        _ids(lambda ids, rng: np.where(ids, ids - 1, 255), every=True),
    ),
    Mutation(
        'all ids one too high',
        REFUSED,
        _ids(lambda ids, rng: ids + 1, every=True),
    ),
    Mutation(
        'nothing labelled', SOUND, _ids(lambda ids, rng: ids * 0, every=True)
    ),
    Mutation(
        "SegNet's folders",
        REFUSED,
        _move((FOLDERS[0], 'train'), (FOLDERS[1], 'trainannot')),
    ),
    *(
        Mutation(f'no {folder}', REFUSED, _move((folder, 'elsewhere')))
        for folder in FOLDERS
    ),
    Mutation(
        'one level too deep',
        REFUSED,
        _move(('images', 'in/images'), ('annotations', 'in/annotations')),
    ),
    Mutation('folders below', SOUND, _below),
    Mutation('hidden files', SAME, _hidden),
    Mutation('link to folder above', REFUSED, _loop),
    Mutation('ending in capitals', REFUSED, _ending),
]
