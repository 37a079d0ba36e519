"""Which score belongs to a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import signature
from typing import Any

from mmengine.config import Config
from mmengine.registry import METRICS
from torch import nn

from mmscope.analysis.detectors import sees_regions
from mmscope.evaluation.classification import ClassificationScore
from mmscope.evaluation.detection import DetectionScore
from mmscope.evaluation.gated_scores import ImageScore
from mmscope.evaluation.segmentation import SegmentationScore
from mmscope.models.layers import unwrap_model
from mmscope.models.losses import ignored_label
from mmscope.models.scoping.head_meaning import predicts_several
from mmscope.models.tasks import (
    CLASSIFICATION,
    DETECTION,
    SEGMENTATION,
    Task,
    task_of,
)

# Of mmseg's heads, data sets and metrics where nobody says it.
IGNORED = 255


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
        ValueError: If the head predicts several classes of an image, or the
            data set names another number of them.
    """
    if predicts_several(model.head):
        raise ValueError(
            'accuracy counts one class an image, and '
            f'{type(model.head).__name__} predicts several: pass score=, or '
            'evaluate thresholds one by one with mmscope test '
            '--exit-threshold'
        )
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
        ValueError: If the data set names no classes, or head and data
            ignore different labels.
    """
    dataset = getattr(dataloader, 'dataset', None)
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if not classes:
        raise ValueError(
            'the data set of this loader names no classes in its metainfo; '
            'pass score=SegmentationScore(num_classes)'
        )
    said = {
        f'decode_head of {type(model).__name__}': ignored_label(model),
        **_ignored_by_data(dataset),
    }
    return SegmentationScore(len(classes), _agreed(said))


def check_metrics(cfg: Config, model: nn.Module) -> None:
    """Refuse metrics that ignore another label than a sweep would.

    Args:
        cfg (Config): Whose evaluators ``mmscope test`` would use.
        model (nn.Module): Of it.

    Raises:
        ValueError: Naming both labels.
    """
    if task_of(model) is not SEGMENTATION:
        return
    said = {'decode_head': ignored_label(unwrap_model(model))}
    for split in ('val', 'test'):
        metrics = cfg.get(f'{split}_evaluator') or []
        for metric in [metrics] if isinstance(metrics, dict) else metrics:
            kind = _metric_kind(metric['type'])
            options = signature(kind).parameters if kind else {}
            default = options.get('ignore_index')
            if default is not None:
                name = f'{split}_evaluator ({kind.__name__})'
                said[name] = metric.get('ignore_index', default.default)
    _agreed(said)


def _metric_kind(name: Any) -> Any:
    """The class of a metric, by its name in the scope of the config."""
    if not isinstance(name, str):
        return name
    with METRICS.switch_scope_and_registry(None) as registry:
        return registry.get(name)


def _ignored_by_data(dataset: Any) -> dict[str, int]:
    """Ask a data set, and what it wraps, which label none is."""
    found, number = {}, getattr(dataset, 'ignore_index', None)
    if number is not None:
        found[type(dataset).__name__] = number
    inner = [getattr(dataset, 'dataset', None)]
    for one in (*inner, *(getattr(dataset, 'datasets', None) or ())):
        if one is not None:
            found |= _ignored_by_data(one)
    return found


def _agreed(said: dict[str, int | None]) -> int:
    """The one label that is ignored; that of the hosts where none is."""
    known = {name: label for name, label in said.items() if label is not None}
    if len(set(known.values())) > 1:
        parts = ', '.join(f'{label} ({name})' for name, label in known.items())
        raise ValueError(
            f'different labels are ignored: {parts}. Set ignore_index of all '
            'of them to the label that is no class'
        )
    return next(iter(known.values()), IGNORED)


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
