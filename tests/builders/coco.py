"""A small COCO file as Python lists."""

from __future__ import annotations

import json

CLASSES = ('square', 'flat')


def annotation(number, box=(4, 4, 20, 10), image=0, category=1, **options):
    """An object with a rectangle as mask."""
    x, y, w, h = box
    return {
        'id': number,
        'image_id': image,
        'category_id': category,
        'bbox': list(box),
        'area': w * h if None not in box else 1,
        'iscrowd': 0,
        'segmentation': [[x, y, x, y, x, y]],
        **options,
    }


def content(*annotations, num_images=2, size=(48, 64), classes=CLASSES):
    """Images of 64 x 48 and two classes."""
    return {
        'images': [
            {
                'id': i,
                'file_name': f'{i}.png',
                'height': size[0],
                'width': size[1],
            }
            for i in range(num_images)
        ],
        'annotations': list(annotations) or [annotation(1)],
        'categories': [
            {'id': i, 'name': name} for i, name in enumerate(classes, start=1)
        ],
    }


def write(path, what):
    """Write text, or anything that JSON holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(what if isinstance(what, str) else json.dumps(what))
    return path
