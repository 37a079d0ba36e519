"""COCO files: written, damaged, and used in training and evaluation."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from .mutations import (
    BROKEN_IMAGE,
    REFUSED,
    SAME,
    SOUND,
    Mutation,
    encoded,
    flip_bytes,
    in_mode,
    on_file,
    remove,
    resized,
    to_folder,
    to_link,
    to_nothing,
    truncate,
    turned,
)

CLASSES = ('square', 'flat', 'café')
SIZE = (24, 32)  # height, width
FILE, IMAGE = 'a.json', 'images/*.jpg'
PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True},
    {'type': 'Resize', 'scale': (64, 48), 'keep_ratio': True},
    {'type': 'PackDetInputs'},
]
# What stands where something else should.
WEIRD = (
    None, True, 'x', '5', '', 0, -1, 2**40, 10**30, 0.5, math.nan, math.inf,
    [], {}, [[]], [1, 2], [[1, 2]], [None] * 4, {'a': 1}, [[[[[[]]]]]],
)  # fmt: skip


def _object(number: int, image: int, box: list, mask: object) -> dict:
    return {
        'id': number,
        'image_id': image,
        'category_id': number % 2 + 1,
        'bbox': box,
        'area': box[2] * box[3],
        'iscrowd': int(isinstance(mask, dict)),
        'segmentation': mask,
    }


def write(root: Path) -> None:
    """Write four images with an object each, and two crowds."""
    from pycocotools import mask as rle

    rng = np.random.default_rng(0)
    (root / 'images').mkdir()
    objects, images = [], []
    for i in range(4):
        pixels = rng.integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(root / 'images' / f'{i}.jpg')
        images.append(
            {
                'id': i,
                'file_name': f'{i}.jpg',
                'height': SIZE[0],
                'width': SIZE[1],
            }
        )
        box = [2 + i, 3, 12, 8 + i]
        x, y, w, h = box
        corners = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        objects.append(_object(i + 1, i, box, corners))
    runs = {'size': list(SIZE), 'counts': [50, 100, SIZE[0] * SIZE[1] - 150]}
    objects.append(_object(8, 0, [2, 0, 5, 24], runs))
    region = np.zeros(SIZE, np.uint8, order='F')
    region[:, 2:7] = 1
    packed = rle.encode(region)
    packed['counts'] = packed['counts'].decode()
    objects.append(_object(9, 1, [2, 0, 5, 24], packed))
    names = enumerate(CLASSES, start=1)
    content = {
        'images': images,
        'annotations': objects,
        'categories': [{'id': i, 'name': name} for i, name in names],
    }
    (root / FILE).write_text(json.dumps(content, ensure_ascii=False))


def use(root: Path, rng: np.random.Generator) -> list:
    """Train on every image, then score; returns what was loaded."""
    from mmdet.evaluation import CocoMetric

    from mmscope.datasets import CocoDetectionDataset
    from mmscope.datasets.coco_metric import check_metric

    loaded, shown = [], []
    for test_mode in (False, True):
        dataset = CocoDetectionDataset(
            data_root=str(root),
            ann_file=FILE,
            data_prefix={'img': 'images/'},
            metainfo={'classes': CLASSES},
            pipeline=PIPELINE,
            test_mode=test_mode,
        )
        for i in range(len(dataset)):
            sample = dataset[i]
            shown.append(sample['data_samples'])
            loaded.append(_look(sample))
    metric = CocoMetric(str(root / FILE), metric=['bbox', 'segm'])
    metric.dataset_meta = dataset.metainfo
    check_metric(metric, dataset)
    for sample in shown[-len(dataset) :]:
        metric.process({}, [_prediction(sample)])
    scores = metric.evaluate(len(dataset))
    assert all(math.isfinite(value) for value in scores.values()), scores
    return [loaded, sorted(scores.items())]


def _look(sample: dict) -> tuple:
    """Check one sample, and return it in a form that can be compared."""
    truth = sample['data_samples']
    height, width = truth.img_shape
    boxes = truth.gt_instances.bboxes.tensor
    assert boxes.isfinite().all(), boxes
    assert (boxes[:, :2] <= boxes[:, 2:]).all(), boxes
    assert (boxes >= 0).all(), boxes
    assert (boxes[:, 2] <= width).all(), boxes
    assert (boxes[:, 3] <= height).all(), boxes
    labels = truth.gt_instances.labels
    assert ((labels >= 0) & (labels < len(CLASSES))).all(), labels
    masks = truth.gt_instances.masks.masks
    assert masks.shape[1:] == (height, width), masks.shape
    pixels = sample['inputs'].numpy().tobytes()
    return pixels, boxes.tolist(), labels.tolist(), masks.tobytes()


def _prediction(sample: object) -> dict:
    """The truth, as if it had been found."""
    truth = sample.gt_instances
    import torch

    ratio = sample.scale_factor[0]
    height, width = sample.ori_shape
    return {
        'img_id': sample.img_id,
        'ori_shape': sample.ori_shape,
        'pred_instances': {
            'bboxes': truth.bboxes.tensor / ratio,
            'scores': torch.ones(len(truth)),
            'labels': truth.labels,
            'masks': torch.zeros(len(truth), height, width, dtype=torch.bool),
        },
    }


def edit(
    change: Callable[[dict, np.random.Generator], None],
) -> Callable[[Path, np.random.Generator], None]:
    """Change the content of the file."""

    def apply(root: Path, rng: np.random.Generator) -> None:
        path = root / FILE
        # Another mutation may have left nothing to change.
        if not path.is_file():
            return
        try:
            content = json.loads(path.read_bytes())
            change(content, rng)
        except (ValueError, LookupError, TypeError, RecursionError):
            return
        path.write_text(json.dumps(content, ensure_ascii=False))

    return apply


def put(section: str, key: str, value: object, row: int | None = None):
    """Set a key of one record, or of a random one."""

    def change(content: dict, rng: np.random.Generator) -> None:
        records = content[section]
        place = rng.integers(len(records)) if row is None else row
        records[place][key] = copy.deepcopy(value)

    return edit(change)


def _weird(content: dict, rng: np.random.Generator) -> None:
    section = ('images', 'annotations', 'categories')[rng.integers(3)]
    records = content[section]
    record = records[rng.integers(len(records))]
    key = sorted(record)[rng.integers(len(record))]
    record[key] = copy.deepcopy(WEIRD[rng.integers(len(WEIRD))])


def _drop(content: dict, rng: np.random.Generator) -> None:
    section = ('images', 'annotations', 'categories')[rng.integers(3)]
    records = content[section]
    record = records[rng.integers(len(records))]
    del record[sorted(record)[rng.integers(len(record))]]


def _weird_section(content: dict, rng: np.random.Generator) -> None:
    key = ('images', 'annotations', 'categories')[rng.integers(3)]
    content[key] = copy.deepcopy(WEIRD[rng.integers(len(WEIRD))])


def _twice(content: dict, rng: np.random.Generator) -> None:
    key = ('images', 'annotations', 'categories')[rng.integers(3)]
    content[key].append(copy.deepcopy(content[key][0]))


def _deep(root: Path, rng: np.random.Generator) -> None:
    path = root / FILE
    if path.is_file():
        depth = int(rng.integers(2_000, 200_000))
        text = path.read_bytes()[:-1]
        path.write_bytes(text + b', "info": ' + b'[' * depth + b']' * depth
                         + b'}')  # fmt: skip


def _all(section: str, change: Callable[[dict], None]):
    def apply(content: dict, rng: np.random.Generator) -> None:
        for record in content[section]:
            change(record)

    return edit(apply)


def _corners(a: dict) -> None:
    x, y, w, h = a['bbox']
    a['bbox'] = [x + 9, y + 9, x + 9 + w, y + 9 + h]


def _fractions(a: dict) -> None:
    a['bbox'] = [v / 64 for v in a['bbox']]


def _text_ids(content: dict, rng: np.random.Generator) -> None:
    for image in content['images']:
        image['id'] = str(image['id'])
    for a in content['annotations']:
        a['image_id'] = str(a['image_id'])


def _other_kind(*keys: str):
    def change(content: dict, rng: np.random.Generator) -> None:
        for a in content['annotations']:
            for key in ('bbox', 'area', 'segmentation', 'category_id'):
                a.pop(key)
            a.update(dict.fromkeys(keys, []))

    return edit(change)


def _reverse(content: dict, rng: np.random.Generator) -> None:
    content['categories'].reverse()


def _to_list(root: Path, rng: np.random.Generator) -> None:
    results = [{'image_id': 0, 'category_id': 1, 'bbox': [0] * 4, 'score': 1}]
    (root / FILE).unlink()
    (root / FILE).write_text(json.dumps(results))


def _gone(root: Path, rng: np.random.Generator) -> None:
    os.rename(root / 'images', root / 'pictures')


NAN, INF = math.nan, math.inf
BAD = 'annotations', 'segmentation'
RLE = {'size': list(SIZE), 'counts': [5, 5]}
MUTATIONS = [
    *(
        Mutation(name, REFUSED, on_file(IMAGE, change))
        for name, change in {**BROKEN_IMAGE, 'no image': remove}.items()
    ),
    *(
        Mutation(f'file: {name}', REFUSED, on_file(FILE, change))
        for name, change in {
            **{k.replace(' as image', ''): v for k, v in BROKEN_IMAGE.items()},
            'cut': truncate,
            'empty': to_nothing,
            'absent': remove,
            'folder': to_folder,
            'UTF-16': encoded('utf-16'),
            'UTF-16 without mark': encoded('utf-16-le'),
            'UTF-32': encoded('utf-32'),
            'Latin-1': encoded('latin-1'),
            'mark of UTF-8': encoded('utf-8-sig'),
        }.items()
    ),
    Mutation('file: linked', SAME, on_file(FILE, to_link)),
    Mutation('file: bytes flipped', SOUND, on_file(FILE, flip_bytes)),
    Mutation('bytes flipped in image', SOUND, on_file(IMAGE, flip_bytes)),
    Mutation('folder with image name', REFUSED, on_file(IMAGE, to_folder)),
    Mutation('linked image', SAME, on_file(IMAGE, to_link)),
    *(
        Mutation(f'image in mode {mode}', SOUND, on_file(IMAGE, in_mode(mode)))
        for mode in ('L', 'RGBA', 'I;16', 'P', 'CMYK')
    ),
    Mutation('EXIF, a quarter', REFUSED, on_file(IMAGE, turned(5, 6, 7, 8))),
    Mutation('EXIF, half a turn', REFUSED, on_file(IMAGE, turned(2, 3, 4))),
    Mutation('image of another size', REFUSED, on_file(IMAGE, resized)),
    Mutation('no image folder', REFUSED, _gone),
    Mutation('nesting', REFUSED, _deep),
    *(Mutation('any value anywhere', SOUND, edit(_weird)) for _ in range(8)),
    *(Mutation('any key absent', SOUND, edit(_drop)) for _ in range(3)),
    Mutation('any list replaced', SOUND, edit(_weird_section)),
    Mutation('anything twice', REFUSED, edit(_twice)),
    *(
        Mutation(f'iscrowd is {v!r}', REFUSED, put(BAD[0], 'iscrowd', v))
        for v in ('0', '1', None, [])
    ),
    *(
        Mutation(f'area is {v!r}', REFUSED, put(BAD[0], 'area', v))
        for v in (NAN, INF, -5, 0, '9', 10**400)
    ),
    *(
        Mutation(f'box is {v!r}', REFUSED, put(BAD[0], 'bbox', v))
        for v in (
            [NAN] * 4,
            [0, 0, INF, 9],
            [0, 0, -4, -4],
            [900, 0, 9, 9],
            [0, 0, 10**400, 5],
            [None, 1, 2, 3],
            '1234',
        )
    ),
    *(
        Mutation(f'{key} is {v!r}', REFUSED, put(BAD[0], key, v))
        for key, v in (('category_id', 99), ('image_id', 99))
    ),
    *(
        Mutation(f'mask {k}', REFUSED, put(*BAD, v))
        for k, v in {
            'of two points': [[1, 2, 3, 4]],
            'of one number': [[1]],
            'of odd numbers': [[1, 2, 3, 4, 5, 6, 7]],
            'empty': [],
            'flat': [1, 2, 3, 4, 5, 6],
            'of text': [['1', '2', '3', '4', '5', '6']],
            'with short runs': RLE,
            'with long runs': {**RLE, 'counts': [0, 10**6]},
            'with huge runs': {**RLE, 'counts': [2**31, 2**31, 2**31]},
            'with negative runs': {**RLE, 'counts': [-5, 773]},
            'turned': {'size': SIZE[::-1], 'counts': [768]},
            'packed short': {**RLE, 'counts': '55'},
            'packed wrong': {**RLE, 'counts': 'zzzzzz'},
            'packed empty': {**RLE, 'counts': ''},
            'packed no ASCII': {**RLE, 'counts': 'é€'},
            'without size': {'counts': [768]},
        }.items()
    ),
    Mutation(
        'all crowds', REFUSED, _all(BAD[0], lambda a: a.update(iscrowd=1))
    ),  # fmt: skip
    Mutation('corners for sizes', REFUSED, _all(BAD[0], _corners)),
    Mutation('fractions for pixels', REFUSED, _all(BAD[0], _fractions)),
    Mutation(
        'sizes swapped',
        REFUSED,
        _all(
            'images', lambda i: i.update(width=i['height'], height=i['width'])
        ),
    ),  # fmt: skip
    *(
        Mutation(f'width is {v!r}', REFUSED, put('images', 'width', v))
        for v in ('32', 0, -32, 32.5, None, 10**9, 10**400)
    ),
    *(
        Mutation(f'image is {v[:9]!r}', REFUSED, put('images', 'file_name', v))
        for v in ('', '../a.json', '.', '/etc/passwd', 'a\0b', 'x' * 5000)
    ),
    Mutation('names are numbers', REFUSED, put('categories', 'name', 7)),
    Mutation('name misses', REFUSED, put('categories', 'name', 'squares', 0)),
    Mutation('classes reversed', REFUSED, edit(_reverse)),
    Mutation('ids are text', SOUND, edit(_text_ids)),
    Mutation('captions', REFUSED, _other_kind('caption')),
    Mutation('panoptic', REFUSED, _other_kind('segments_info')),
    Mutation('results', REFUSED, _to_list),
    Mutation('unknown keys', SAME, put('annotations', 'keypoints', [1, 2])),
]
