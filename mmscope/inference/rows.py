"""From results to rows of a table."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from mmscope.inference.reading import ImageFailure
from mmscope.models.scoping.head_meaning import predicts_several
from mmscope.models.tasks import CLASSIFICATION, task_of

Row = dict[str, Any]
MULTI_LABEL = 'mmpretrain, multi-label'
# Column -> type, in the words of pyarrow.
COMMON = {
    'name': 'string',
    'error': 'string',
    'exited': 'bool',
    'confidence': 'double',
    'gmacs': 'double',
}


def row_of(name: str, result: Any, scope: str, classes: Sequence[str]) -> Row:
    """Make a row of a result.

    Args:
        name (str): Of the image.
        result (Any): Of a :class:`TwoStageEngine`.
        scope (str): Kind of row, see :func:`row_kind`.
        classes (Sequence[str]): Names by label.

    Returns:
        dict: Values by column; those that are missing are null.
    """
    if isinstance(result, ImageFailure):
        return {'name': name, 'error': result.reason}
    return {
        'name': name,
        'exited': result.exited,
        'confidence': result.confidence,
        'gmacs': result.macs / 1e9,
        **HOST_ROWS[scope][1](result, classes),
    }


def columns_of(scope: str) -> dict[str, str]:
    """List the columns of a kind of rows, with their types."""
    return {**COMMON, **HOST_ROWS[scope][0]}


def row_kind(scope: str, model: nn.Module) -> str:
    """Name the kind of rows that a host's model fills.

    Args:
        scope (str): Host of the model.
        model (nn.Module): It.

    Returns:
        str: The host, or ``MULTI_LABEL``.
    """
    if task_of(model) is not CLASSIFICATION:
        return scope
    several = predicts_several(getattr(model, 'head', None))
    return MULTI_LABEL if several else scope


def class_row(sample: Any, classes: Sequence[str]) -> Row:
    """The class that a classifier predicts, with its score."""
    found = classes_row(sample, classes)
    columns = {'label': 'labels', 'class': 'classes', 'score': 'scores'}
    # There is one.
    return {one: found[several][0] for one, several in columns.items()}


def classes_row(sample: Any, classes: Sequence[str]) -> Row:
    """The classes that a multi-label classifier calls present."""
    labels = sample.pred_label.tolist()
    return {
        'labels': labels,
        'classes': [classes[label] for label in labels],
        'scores': sample.pred_score[sample.pred_label].float().tolist(),
    }


def map_row(sample: Any, classes: Sequence[str]) -> Row:
    """Label of each pixel, as a PNG, and the names of those that occur."""
    labels = sample.pred_sem_seg.data.squeeze(0).cpu().numpy()
    kind = np.uint8 if len(classes) <= 256 else np.uint16
    file = io.BytesIO()
    Image.fromarray(labels.astype(kind)).save(file, 'PNG')
    found = np.unique(labels.astype(np.int64)).tolist()
    return {
        'map_png': file.getvalue(),
        'classes': [classes[i] for i in found if i < len(classes)],
    }


def instances_row(sample: Any, classes: Sequence[str]) -> Row:
    """Boxes in pixels of the image file, and masks in COCO's RLE."""
    found = sample.pred_instances
    labels = found.labels.tolist()
    height, width = sample.ori_shape
    row = {
        'labels': labels,
        'classes': [classes[label] for label in labels],
        'scores': found.scores.float().tolist(),
        'boxes': found.bboxes.float().tolist(),
        'height': height,
        'width': width,
    }
    if 'masks' in found:
        row['masks'] = list(map(rle, found.masks.cpu().numpy()))
    return row


def rle(mask: np.ndarray) -> str:
    """Write a mask, (H, W) bool, as the counts of COCO's compressed RLE."""
    from pycocotools.mask import encode

    return encode(np.asfortranarray(mask, np.uint8))['counts'].decode()


# Kind of rows -> its own columns, and what fills them.
HOST_ROWS: dict[str, tuple[dict[str, str], Callable[..., Row]]] = {
    'mmpretrain': (
        {'label': 'int32', 'class': 'string', 'score': 'float'},
        class_row,
    ),
    MULTI_LABEL: (
        {
            'labels': 'list<int32>',
            'classes': 'list<string>',
            'scores': 'list<float>',
        },
        classes_row,
    ),
    'mmseg': ({'map_png': 'binary', 'classes': 'list<string>'}, map_row),
    'mmdet': (
        {
            'labels': 'list<int32>',
            'classes': 'list<string>',
            'scores': 'list<float>',
            'boxes': 'list<list<float>>',
            'masks': 'list<string>',
            'height': 'int32',
            'width': 'int32',
        },
        instances_row,
    ),
}
