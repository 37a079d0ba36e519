"""Masks of a COCO file: whether they can be drawn, and end."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike

import numpy as np

from mmscope.errors import DatasetLayoutError

FEWEST = 6  # numbers of a polygon: three points
FIX = (
    'For boxes alone set with_mask=False in every LoadAnnotations, '
    "metric='bbox' in the evaluators, "
    'model.data_preprocessor.pad_mask=False, and '
    'model.roi_head.mask_head=None with mask_roi_extractor=None, as '
    'configs/bccd does.'
)


def check_masks(
    content: dict,
    used: np.ndarray,
    name: str | PathLike,
    scored: bool = False,
) -> None:
    """Check that every used annotation has a mask that can be drawn.

    Runs that do not add up would hang pycocotools' IoU for ever, and a
    polygon of two points ends its evaluation after the last image.

    Args:
        content (dict): As :func:`read_coco` gives it.
        used (np.ndarray): (n,) bool, annotations that are not left out.
        name (str | PathLike): What messages call the file.
        scored (bool): Whether masks are compared with predictions, so that
            every polygon must have three points. Defaults to False.

    Raises:
        DatasetLayoutError: If one has none, an RLE of another size or whose
            runs do not fill it, or, if scored, a bad polygon.
    """
    annotations = content['annotations']
    rows = np.flatnonzero(used)
    empty = [i for i in rows if not annotations[i].get('segmentation')]
    if empty:
        raise DatasetLayoutError(
            f'annotation file {name}: {len(empty):,} of {len(rows):,} '
            'annotations have no segmentation (annotation id '
            f'{annotations[empty[0]]["id"]!r}), and masks are asked for. '
            f'{FIX}'
        )
    bad = list(_bad_runs(content, rows))
    if scored:
        bad += _bad_polygons(annotations, rows)
    if bad:
        number, problem = bad[0]
        raise DatasetLayoutError(
            f'annotation file {name}: {len(bad):,} masks cannot be drawn, '
            f'first annotation id {number!r}: {problem}. Write these masks '
            f'again or remove their objects. {FIX}'
        )


def without_polygon(content: dict, used: np.ndarray) -> list[object]:
    """Find objects without any polygon of three points.

    mmdet treats them as it treats crowds: trained neither as object nor
    with a mask.

    Args:
        content (dict): As :func:`read_coco` gives it.
        used (np.ndarray): (n,) bool, annotations that are not left out.

    Returns:
        list[object]: Their ids.
    """
    annotations = content['annotations']
    return [
        annotations[i]['id']
        for i in np.flatnonzero(used)
        if isinstance(parts := annotations[i]['segmentation'], list)
        and not any(map(_is_polygon, parts))
    ]


def run_total(counts: list[int] | str) -> int | None:
    """Add up the runs of an RLE.

    Args:
        counts (list[int] | str): Lengths, or COCO's packed text: 6 bits a
            character from '0' on, of which the highest says that more
            follow, the next of the last one is the sign, and from the
            fourth run on the value is the difference to the last but one.

    Returns:
        int | None: Pixels; None where the text is not of that kind.
    """
    if not isinstance(counts, str):
        return sum(counts)
    codes = np.frombuffer(counts.encode(), np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63:
        return None
    last = codes < 32
    starts = np.r_[0, np.flatnonzero(last)[:-1] + 1]
    length = np.diff(np.r_[starts, len(codes)])
    if not last[-1] or length.max() > 7:
        return None
    place = np.arange(len(codes)) - np.repeat(starts, length)
    runs = np.add.reduceat((codes & 31) << (5 * place), starts)
    negative = (codes[last] & 16).astype(bool)
    runs -= negative * (1 << (5 * length))
    # The first run stands for itself.
    runs[1::2], runs[2::2] = runs[1::2].cumsum(), runs[2::2].cumsum()
    return int(runs.sum()) if runs.min() >= 0 else None


def _bad_runs(content: dict, rows: np.ndarray) -> Iterator[tuple[object, str]]:
    """RLEs of another size than their image, or that do not fill it."""
    sizes = {i['id']: [i['height'], i['width']] for i in content['images']}
    for i in rows:
        annotation = content['annotations'][i]
        mask = annotation['segmentation']
        if not isinstance(mask, dict):
            continue
        size = sizes[annotation['image_id']]
        total = run_total(mask['counts'])
        if list(mask['size']) != size:
            problem = f'its RLE is {mask["size"]} (height, width), its image '
            yield annotation['id'], f'{problem}{size}'
        elif total != size[0] * size[1]:
            what = 'no packed RLE' if total is None else f'{total:,} pixels'
            yield (
                annotation['id'],
                f'its RLE has {what}, expected runs that add up to '
                f'{size[0]} x {size[1]} = {size[0] * size[1]:,}',
            )


def _bad_polygons(
    annotations: list[dict], rows: np.ndarray
) -> list[tuple[object, str]]:
    return [
        (annotations[i]['id'], f'its polygon has {len(part)} numbers, '
         'expected x, y of at least three points')
        for i in rows
        if isinstance(parts := annotations[i]['segmentation'], list)
        for part in parts
        if not _is_polygon(part)
    ]  # fmt: skip


def _is_polygon(part: list) -> bool:
    return len(part) >= FEWEST and len(part) % 2 == 0
