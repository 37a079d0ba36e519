"""Detections of one image, matched to its objects by pycocotools."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_DETECTIONS = 100
# Of a file in COCO's format: an image, an object or a detection.
Entry = dict[str, Any]
# 0.50, 0.55, ..., 0.95.
IOUS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True)
class Matches:
    """What became of the detections of one image.

    Detections come by category, in each the surest first, at most 100.

    Args:
        labels (np.ndarray): Index of the category, (d,) int64.
        sure (np.ndarray): COCO's score of each, (d,) float64.
        hits (np.ndarray): Right at each of the 10 IoUs, (10, d) bool.
        ignored (np.ndarray): Matched to a crowd, so neither right nor wrong,
            (10, d) bool.
        objects (np.ndarray): Objects of each category but crowds, (C,)
            int64.
    """

    labels: np.ndarray
    sure: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    objects: np.ndarray


@dataclass(frozen=True)
class ImageMatches:
    """The matched detections of one image.

    Args:
        image_id (int): Of the annotation file.
        by_type (dict[str, Matches]): 'bbox' and perhaps 'segm'.
    """

    image_id: int
    by_type: dict[str, Matches]


def match_image(
    image: Entry,
    annotations: Sequence[Entry],
    detections: Sequence[Entry],
    cat_ids: Sequence[int],
    iou_type: str = 'bbox',
) -> Matches:
    """Match as COCO's evaluation does, objects of any area.

    Args:
        image (Entry): Entry of the annotation file.
        annotations (Sequence[Entry]): The image's entries of that file.
        detections (Sequence[Entry]): Entries of COCO's result format with
            their ``area``.
        cat_ids (Sequence[int]): Category of each of the C labels.
        iou_type (str): 'bbox' or 'segm'. Defaults to 'bbox'.

    Returns:
        Matches: One row a detection.
    """
    from pycocotools.cocoeval import COCOeval

    known = {entry['category_id'] for entry in (*annotations, *detections)}
    used = [cat_id for cat_id in cat_ids if cat_id in known]
    with redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            _index(image, annotations, used),
            _index(image, detections, used),
            iou_type,
        )
        params = evaluation.params
        params.iouThrs, params.maxDets = IOUS, [MAX_DETECTIONS]
        # Of the areas 'all', 'small', 'medium' and 'large' the first.
        params.areaRng = params.areaRng[:1]
        if used:
            evaluation.evaluate()
    found = [entry for entry in evaluation.evalImgs if entry is not None]
    return _put_together(found, list(cat_ids))


def _index(
    image: Entry, entries: Sequence[Entry], cat_ids: list[int]
) -> object:
    """Make a COCO object of one image."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        'images': [image],
        # The evaluation notes its findings in them.
        'annotations': [dict(entry) for entry in entries],
        'categories': [{'id': cat_id} for cat_id in cat_ids],
    }
    coco.createIndex()
    return coco


def _put_together(found: list[Entry], cat_ids: list[int]) -> Matches:
    """Join what was found in each category."""
    labels = [cat_ids.index(entry['category_id']) for entry in found]
    sizes = [len(entry['dtScores']) for entry in found]
    objects = np.zeros(len(cat_ids), dtype=np.int64)
    for label, entry in zip(labels, found, strict=True):
        objects[label] = np.count_nonzero(entry['gtIgnore'] == 0)
    none = np.zeros((len(IOUS), 0), dtype=bool)
    ignored = np.concatenate(
        [none, *(entry['dtIgnore'].astype(bool) for entry in found)], 1
    )
    matched = np.concatenate(
        [none, *(entry['dtMatches'] != 0 for entry in found)], 1
    )
    return Matches(
        labels=np.repeat(np.array(labels, dtype=np.int64), sizes),
        sure=np.array([s for e in found for s in e['dtScores']], dtype=float),
        hits=matched & ~ignored,
        ignored=ignored,
        objects=objects,
    )
