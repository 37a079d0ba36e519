"""Counts the annotations that cannot be used, instead of losing them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from .files import SHOWN, some

# What mmdet's CocoDataset leaves out, in our words; first reason counts.
REASONS = {
    'orphan': 'of an image that the file does not list',
    'unknown': 'of a category_id that the file does not list',
    'unused': 'of categories that the config does not name',
    'ignore': 'marked as ignore',
    'not_finite': 'with NaN, an infinite number or null as box or area',
    'no_area': 'with a box narrower than a pixel, or an area of 0 or less',
    'outside': 'with a box wholly outside of the image',
}
# Coordinates are rounded here and there.
BORDER = 1.0


def sort_annotations(
    content: dict, cat_ids: Collection
) -> dict[str, np.ndarray]:
    """Find annotations that are left out or clipped, and why.

    Boxes follow mmdet's rules. A box that reaches out of the image by more
    than a pixel is kept, and clipped by the pipeline's Resize or RandomCrop.

    Args:
        content (dict): As :func:`read_coco` gives it.
        cat_ids (Collection): Ids of the categories that the config names.

    Returns:
        dict[str, np.ndarray]: Indices of annotations for every key of
        ``REASONS`` and for 'clipped'.
    """
    annotations = content['annotations']
    numbers = _numbers(annotations)
    x, y, w, h, area = numbers.T
    image, width, height = _images_of(content)
    known = {category['id'] for category in content['categories']}
    categories = [a['category_id'] for a in annotations]
    with np.errstate(invalid='ignore', over='ignore'):
        inside_w = np.minimum(x + w, width) - np.maximum(x, 0)
        inside_h = np.minimum(y + h, height) - np.maximum(y, 0)
        out = np.maximum.reduce([-x, -y, x + w - width, y + h - height])
        found = {
            'orphan': image < 0,
            'unknown': ~_is_in(categories, known),
            'unused': ~_is_in(categories, set(cat_ids)),
            'ignore': np.array(
                [bool(a.get('ignore')) for a in annotations], bool
            ),
            'not_finite': ~np.isfinite(numbers).all(1),
            'no_area': (w < 1) | (h < 1) | (area <= 0),
            'outside': (inside_w <= 0) | (inside_h <= 0),
            'clipped': out > BORDER,
        }
    free = np.ones(len(annotations), bool)
    for key, mask in found.items():
        found[key] = np.flatnonzero(mask & free)
        free &= ~mask
    return found


def describe(found: dict[str, np.ndarray], content: dict) -> str:
    """Say how many annotations are left out or clipped, with examples.

    Args:
        found (dict[str, np.ndarray]): Of :func:`sort_annotations`.
        content (dict): As :func:`read_coco` gives it.

    Returns:
        str: Sentences, '' where there is nothing to say.
    """
    annotations = content['annotations']
    parts = [
        f'{len(found[key]):,} {reason} ({_first(found[key], annotations)})'
        for key, reason in REASONS.items()
        if len(found[key])
    ]
    text = []
    if parts:
        text.append(
            f'left out {num_left_out(found):,} of {len(annotations):,} '
            f'annotations: {"; ".join(parts)}'
        )
    if len(clipped := found['clipped']):
        text.append(
            'boxes that reach out of their image and are clipped: '
            f'{len(clipped):,} ({_first(clipped, annotations)})'
        )
    hint = _hint(found, annotations)
    return '. '.join([*text, hint] if hint else text)


def num_left_out(found: dict[str, np.ndarray]) -> int:
    """Count the annotations that are left out.

    Args:
        found (dict[str, np.ndarray]): Of :func:`sort_annotations`.

    Returns:
        int: Each counts once.
    """
    return sum(len(found[key]) for key in REASONS)


def left_out(found: dict[str, np.ndarray], count: int) -> np.ndarray:
    """Mark the annotations that are left out.

    Args:
        found (dict[str, np.ndarray]): Of :func:`sort_annotations`.
        count (int): Number of all annotations.

    Returns:
        np.ndarray: (count,) bool.
    """
    mask = np.zeros(count, bool)
    for key in REASONS:
        mask[found[key]] = True
    return mask


def _numbers(annotations: list[dict]) -> np.ndarray:
    """Boxes and areas, (n, 5); null is NaN."""
    rows = [[*a['bbox'], a['area']] for a in annotations]
    return np.array(rows, float).reshape(len(annotations), 5)


def _images_of(content: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image index (-1: none), width and height for every annotation."""
    images, annotations = content['images'], content['annotations']
    index = {image['id']: i for i, image in enumerate(images)}
    rows = np.array([index.get(a['image_id'], -1) for a in annotations], int)
    # The last row serves index -1.
    sizes = [(i['width'], i['height']) for i in images] + [(0, 0)]
    width, height = np.array(sizes, float)[rows].T
    return rows, width, height


def _is_in(values: list, allowed: set) -> np.ndarray:
    return np.array([value in allowed for value in values], bool)


def _first(rows: np.ndarray, annotations: list[dict]) -> str:
    ids = [annotations[row]['id'] for row in rows[: SHOWN + 1]]
    return f'annotation id {some(ids)}'


def _hint(found: dict[str, np.ndarray], annotations: list[dict]) -> str:
    """Name a likely cause where much is wrong in the same way."""
    many = max(2, len(annotations) // 4)
    if len(found['orphan']) == len(annotations) > 0:
        return (
            'No annotation belongs to an image: are ids text in one list '
            'and numbers in the other'
        )
    if len(found['outside']) + len(found['clipped']) >= many:
        return (
            'So many are a sign of boxes as x1, y1, x2, y2 or of another '
            'image size; COCO has x, y, width, height'
        )
    if len(found['no_area']) >= many:
        return 'So many are a sign of coordinates from 0 to 1; COCO has pixels'
    return ''
