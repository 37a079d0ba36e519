"""Class folders: written, damaged, and used as training uses them."""

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
    crlf,
    encoded,
    flip_bytes,
    in_mode,
    on_file,
    resized,
    to_folder,
    to_link,
    turned,
)

CLASSES = ('ant', 'bee', 'café fly')
ANY = 'train/*/*.jpg'
PIPELINE = [
    {'type': 'mmscope.LoadImage'},
    {'type': 'Resize', 'scale': (16, 16)},
    {'type': 'PackInputs'},
]


def write(root: Path) -> None:
    """Write three classes, and the lists that may be used instead."""
    rng = np.random.default_rng(0)
    lines = []
    for split, number in (('train', 2), ('val', 1)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f'{i}.jpg')
                if split == 'train':
                    lines.append(f'{name}/{i}.jpg {label}\n')
    (root / 'classes.txt').write_text('\n'.join(CLASSES) + '\n')
    (root / 'images.txt').write_text(''.join(lines))


def use(root: Path, rng: np.random.Generator) -> list:
    """Load every item of every way to name it; returns what was loaded."""
    from mmscope.datasets import ImageFolder

    common = {'data_root': str(root), 'pipeline': PIPELINE}
    ways = [
        {'data_prefix': 'train'},
        {'data_prefix': 'val', 'same_classes_as': 'train'},
        {'data_prefix': 'train', 'class_list': str(root / 'classes.txt')},
        {
            'data_prefix': 'train',
            'ann_file': 'images.txt',
            'metainfo': {'classes': CLASSES},
        },
    ]
    loaded = []
    for way in ways:
        dataset = ImageFolder(**common, **way)
        for i in range(len(dataset)):
            path = Path(dataset.get_data_info(i)['img_path'])
            sample = dataset[i]
            label = int(sample['data_samples'].gt_label)
            # A list of images may call any folder any class.
            named = 'ann_file' not in way
            name = dataset.metainfo['classes'][label]
            pixels = sample['inputs']
            assert tuple(pixels.shape) == (3, 16, 16), pixels.shape
            parts = path.relative_to(root / way['data_prefix']).parts
            assert parts[0] == name or not named, f'{path} is taught as {name}'
            loaded.append((label, pixels.numpy().tobytes()))
    return loaded


def _rename(old: str, new: str, everywhere: bool = True):
    def apply(root: Path, rng: np.random.Generator) -> None:
        for split in ('train', 'val') if everywhere else ('val',):
            os.rename(root / split / old, os.fsencode(root / split) + b'/'
                      + new.encode(errors='surrogateescape'))  # fmt: skip
        for name in ('classes.txt', 'images.txt'):
            if not (root / name).is_file():
                continue
            text = (root / name).read_text().replace(old, new)
            data = text.encode(errors='surrogateescape')
            if everywhere:
                (root / name).write_bytes(data)

    return apply


def _numbers(root: Path, rng: np.random.Generator) -> None:
    for old, new in zip(CLASSES, ('10', '9', '1'), strict=True):
        _rename(old, new)(root, rng)


def _list(name: str, *lines: str):
    def apply(root: Path, rng: np.random.Generator) -> None:
        (root / name).write_text(''.join(f'{line}\n' for line in lines))

    return apply


def _loop(root: Path, rng: np.random.Generator) -> None:
    (root / 'train' / 'ant' / 'again').symlink_to(root / 'train' / 'ant')


def _deep(root: Path, rng: np.random.Generator) -> None:
    place = root / 'train' / 'ant'
    for _ in range(60):
        place = place / 'd'
    place.mkdir(parents=True)
    shutil.move(root / 'train' / 'ant' / '0.jpg', place / '0.jpg')
    _list('images.txt', 'bee/0.jpg 1')(root, rng)


def _nest(root: Path, rng: np.random.Generator) -> None:
    for split in ('train', 'val'):
        os.rename(root / split, root / 'inner')
        (root / split).mkdir()
        os.rename(root / 'inner', root / split / split)


def _beside(name: str, data: bytes = b''):
    def apply(root: Path, rng: np.random.Generator) -> None:
        (root / 'train' / name).write_bytes(data)

    return apply


def _swap_class(change):
    def apply(root: Path, rng: np.random.Generator) -> None:
        place = root / 'train' / 'bee'
        shutil.rmtree(place)
        change(place)

    return apply


def _upper(root: Path, rng: np.random.Generator) -> None:
    for path in sorted((root / 'val').glob('*/*.jpg')):
        path.rename(path.with_suffix('.JPG'))


def _hidden(root: Path, rng: np.random.Generator) -> None:
    (root / 'train' / '.cache').mkdir()
    (root / 'train' / 'ant' / '.x.jpg').write_bytes(b'x')


MUTATIONS = [
    *(
        Mutation(name, REFUSED, on_file(ANY, change))
        for name, change in BROKEN_IMAGE.items()
    ),
    Mutation('bytes flipped in image', SOUND, on_file(ANY, flip_bytes)),
    Mutation('folder with image name', SOUND, on_file(ANY, to_folder)),
    Mutation('linked image', SAME, on_file(ANY, to_link)),
    *(
        Mutation(f'image in mode {mode}', SOUND, on_file(ANY, in_mode(mode)))
        for mode in ('RGBA', 'I;16', 'P', 'LA', '1', 'CMYK')
    ),
    Mutation('image of floats', REFUSED, on_file(ANY, in_mode('F'))),
    Mutation('EXIF in image', SOUND, on_file(ANY, turned(2, 3, 6, 8))),
    Mutation('image of another size', SOUND, on_file(ANY, resized)),
    Mutation('classes are numbers', SOUND, _numbers),
    Mutation('class only in train', REFUSED, _rename('ant', 'bug', False)),
    Mutation('quotes in name', SOUND, _rename('ant', '"a", \'b\'')),
    Mutation('class no UTF-8', SOUND, _rename('ant', 'caf\udce9')),
    Mutation('blanks around class', SOUND, _rename('ant', ' a  b ')),
    Mutation('class begins as another', SOUND, _rename('bee', 'ant x')),
    Mutation('empty class', REFUSED, _swap_class(lambda place: place.mkdir())),
    Mutation('no class', REFUSED, _swap_class(lambda place: None)),
    Mutation(
        'class is a broken link',
        REFUSED,
        _swap_class(lambda place: place.symlink_to('nowhere')),
    ),
    Mutation(
        'class is a file', REFUSED, _swap_class(lambda place: place.touch())
    ),
    Mutation(
        'no split', REFUSED, lambda root, rng: shutil.rmtree(root / 'train')
    ),
    Mutation('one level too deep', REFUSED, _nest),
    Mutation('link to folder above', SAME, _loop),
    Mutation('60 folders deep', SOUND, _deep),
    Mutation('endings in capitals', SAME, _upper),
    Mutation('hidden files', SAME, _hidden),
    Mutation('image beside classes', REFUSED, _beside('x.jpg')),
    Mutation('archive beside classes', REFUSED, _beside('x.tar')),
    Mutation('note beside classes', SAME, _beside('README')),
    *(
        Mutation(f'{name} {kind}', wanted, on_file(name, change))
        for name in ('classes.txt', 'images.txt')
        for kind, wanted, change in (
            ('in UTF-16', REFUSED, encoded('utf-16')),
            ('in UTF-16 without mark', REFUSED, encoded('utf-16-le')),
            ('in Latin-1', REFUSED, encoded('latin-1')),
            ('in cp1252', REFUSED, encoded('cp1252')),
            ('with mark', SAME, encoded('utf-8-sig')),
            ('with CRLF', SAME, crlf),
            ('flipped', SOUND, flip_bytes),
            ('is HTML', REFUSED, BROKEN_IMAGE['HTML as image']),
            ('is empty', REFUSED, BROKEN_IMAGE['empty image']),
            ('is a pipe', REFUSED, BROKEN_IMAGE['pipe as image']),
        )
    ),
    Mutation('class twice', REFUSED, _list('classes.txt', *CLASSES, 'ant')),
    Mutation('unknown class', REFUSED, _list('classes.txt', 'ant', 'wasp')),
    *(
        Mutation(f'label {label!r}', REFUSED, _list('images.txt', line))
        for label, line in (
            ('3', 'ant/0.jpg 3'),
            ('-1', 'ant/0.jpg -1'),
            ('²', 'ant/0.jpg ²'),
            ('1e400', 'ant/0.jpg 1e400'),
            ('9' * 40, 'ant/0.jpg ' + '9' * 40),
            ('', 'ant/0.jpg'),
            ('by comma', 'ant/0.jpg,1'),
            ('of none', 'ant/none.jpg 0'),
            ('of NUL', 'ant/\0.jpg 0'),
            ('of a folder', 'ant 0'),
        )
    ),
]
