"""Which score belongs to a model."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from mmscope.evaluation.classification import ClassificationScore
from mmscope.evaluation.mixtures import ImageScore
from mmscope.evaluation.scores import SegmentationScore
from mmscope.models.scoping import unwrap_model


def default_score(model: nn.Module, dataloader: Iterable) -> ImageScore:
    """Find the score of a model's task.

    Args:
        model (nn.Module): Host model.
        dataloader (Iterable): Its data.

    Returns:
        ImageScore: Accuracy of a classifier, mIoU of a segmentor.

    Raises:
        ValueError: If the task has no score here, or the data set has
            another number of classes than a classifier.
    """
    model = unwrap_model(model)
    if getattr(model.backbone, 'out_type', None) == 'cls_token':
        return classification_score(model, dataloader)
    if hasattr(model, 'decode_head'):
        return segmentation_score(dataloader)
    raise ValueError(
        f'{type(model).__name__} is neither a classifier nor a segmentor, so '
        'there is no score to sweep: pass score=, or evaluate thresholds one '
        'by one with tools/test.py --exit-threshold'
    )


def classification_score(
    model: nn.Module, dataloader: Iterable
) -> ClassificationScore:
    """Make the accuracy over a classifier's classes.

    Args:
        model (nn.Module): Classifier with ``head.num_classes``.
        dataloader (Iterable): Loader of an mmpretrain data set.

    Returns:
        ClassificationScore: The score.

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


def segmentation_score(dataloader: Iterable) -> SegmentationScore:
    """Make the mIoU over a data set's classes.

    Args:
        dataloader (Iterable): Loader of an mmseg data set.

    Returns:
        SegmentationScore: With the ignore index of the data set.

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
