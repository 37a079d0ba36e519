"""Which score belongs to a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from mmscope.analysis.detectors import sees_regions
from mmscope.evaluation.classification import ClassificationScore
from mmscope.evaluation.detection import DetectionScore
from mmscope.evaluation.gated_scores import ImageScore
from mmscope.evaluation.segmentation import SegmentationScore
from mmscope.models.layers import unwrap_model
from mmscope.models.tasks import (
    CLASSIFICATION,
    DETECTION,
    SEGMENTATION,
    Task,
    task_of,
)


def default_score(model: nn.Module, dataloader: Iterable) -> ImageScore:
    """Find the score of a model's task.

    Raises:
        ValueError: If the task has no score here, or the data set does not
            fit it.
    """
    model, task = unwrap_model(model), task_of(model)
    if task in SCORES:
        return SCORES[task](model, dataloader)
    raise ValueError(
        f'{type(model).__name__} is neither classifier, segmentor nor '
        'detector, so there is no score to sweep: pass score=, or evaluate '
        'thresholds one by one with mmscope test --exit-threshold'
    )


def classification_score(
    model: nn.Module, dataloader: Iterable
) -> ClassificationScore:
    """Make the accuracy over a classifier's classes.

    Raises:
        ValueError: If the data set names another number of classes.
    """
    number = model.head.num_classes
    dataset = getattr(dataloader, 'dataset', None)
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if classes and len(classes) != number:
        raise ValueError(
            f'the data set has {len(classes)} classes, the head of the model '
            f'{number}: is a class folder missing, or is it other data?'
        )
    return ClassificationScore(number)


def segmentation_score(
    model: nn.Module, dataloader: Iterable
) -> SegmentationScore:
    """Make the mIoU over a data set's classes.

    Raises:
        ValueError: If the data set names no classes.
    """
    dataset = getattr(dataloader, 'dataset', None)
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if not classes:
        raise ValueError(
            'the data set of this loader names no classes in its metainfo; '
            'pass score=SegmentationScore(num_classes)'
        )
    ignore = getattr(dataset, 'ignore_index', 255)
    return SegmentationScore(len(classes), ignore)


def detection_score(model: nn.Module, dataloader: Iterable) -> DetectionScore:
    """Make COCO's AP over a data set's classes.

    Masks are scored as well if the model predicts them and every object of
    the annotation file has one.

    Raises:
        ValueError: If the data set has no COCO annotations or is wrapped in
            another, or it has other classes than the box heads.
    """
    dataset = getattr(dataloader, 'dataset', None)
    _check_coco(dataset)
    _check_classes(model, dataset)
    coco = _read_annotations(dataset)
    with_masks = getattr(model, 'with_mask', False) and all(
        entry.get('segmentation') for entry in coco.anns.values()
    )
    return DetectionScore(coco, dataset.cat_ids, with_masks)


def _check_coco(dataset: Any) -> None:
    from mmdet.datasets import CocoDataset
    from mmdet.datasets.api_wrappers import COCO

    found = type(dataset).__name__
    if not isinstance(dataset, CocoDataset):
        raise ValueError(
            f'AP needs a loader of an mmdet CocoDataset, got {found}: name '
            'the CocoDataset itself in the dataloader, without a wrapper '
            'such as ConcatDataset or RepeatDataset, or pass score='
        )
    if dataset.COCOAPI is not COCO:
        raise ValueError(
            f'{found} is scored by rules of its own '
            f'({dataset.COCOAPI.__name__}), not by the AP of COCO: evaluate '
            'thresholds one by one with mmscope test --exit-threshold'
        )
    dataset.full_init()


def _check_classes(model: nn.Module, dataset: Any) -> None:
    classes, known = dataset.metainfo['classes'], len(dataset.cat_ids)
    if known != len(classes):
        raise ValueError(
            f'{dataset.ann_file} has {known} of the {len(classes)} classes '
            f'{tuple(classes)}: set metainfo=dict(classes=...) of the data '
            'set to the names in the file'
        )
    head = model.roi_head if sees_regions(model) else model
    head = head.bbox_head
    number = (head[0] if isinstance(head, nn.ModuleList) else head).num_classes
    if number != known:
        raise ValueError(
            f'the data set has {known} classes, the box head of the model '
            f'{number}: is it a config for other data?'
        )


def _read_annotations(dataset: Any) -> Any:
    """Read the file again: CocoDataset keeps none of its objects."""
    from mmengine.fileio import get_local_path

    with get_local_path(
        dataset.ann_file, backend_args=dataset.backend_args
    ) as path:
        return dataset.COCOAPI(path)


SCORES: dict[Task | None, Callable[[Any, Iterable], ImageScore]] = {
    CLASSIFICATION: classification_score,
    SEGMENTATION: segmentation_score,
    DETECTION: detection_score,
}
