"""The evaluator must read the annotations of the data that it scores."""

from __future__ import annotations

import os.path as osp

import numpy as np
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from torch.utils.data import Dataset

from mmscope.errors import DatasetLayoutError

from .coco_file import read_coco
from .coco_masks import check_masks

NUM_SAMPLES = 20


def check_evaluators(cfg: Config) -> None:
    """Check annotation files that an evaluator alone reads.

    It opens its file itself, and fails deep inside where that is no COCO
    file; one that is the data set's, too, is checked there.

    Args:
        cfg (Config): Complete config.

    Raises:
        DatasetLayoutError: If a file is not right.
    """
    for split in ('val', 'test'):
        evaluators = cfg.get(f'{split}_evaluator') or []
        if isinstance(evaluators, dict):
            evaluators = [evaluators]
        data = (cfg.get(f'{split}_dataloader') or {}).get('dataset', {})
        own = osp.join(data.get('data_root') or '', data.get('ann_file', ''))
        for evaluator in evaluators:
            path = str(evaluator.get('ann_file') or '')
            coco = str(evaluator.get('type')).endswith('CocoMetric')
            same = osp.abspath(path) == osp.abspath(own)
            if path and coco and not same and '://' not in path:
                read_coco(path, test_mode=True)


def check_metric(metric: BaseMetric, dataset: Dataset) -> None:
    """Compare the images and categories of mmdet's CocoMetric with the data.

    Its ``ann_file`` is set apart from the data set's. With another file AP
    is low or fails after the last image; with a part of the images, the
    others count as missed.

    Args:
        metric (BaseMetric): With an open annotation file; others pass.
        dataset (Dataset): With ``img_id`` in its entries; others pass.

    Raises:
        DatasetLayoutError: If it reads another file, or one with masks that
            cannot be scored.
    """
    api = getattr(metric, '_coco_api', None)
    if api is None or not hasattr(dataset, 'get_data_info'):
        return
    for index in range(0, len(dataset), max(1, len(dataset) // NUM_SAMPLES)):
        info = dataset.get_data_info(index)
        if 'img_id' not in info:
            return
        _check_image(api.imgs.get(info['img_id']), info, dataset)
    scored = _check_categories(api, dataset)
    if 'segm' in getattr(metric, 'metrics', ()):
        objects = api.dataset.get('annotations', [])
        used = [_counts(a, api, scored) for a in objects]
        own = getattr(dataset, 'ann_file', '?')
        name = f'of the evaluator (that of the data set is {own})'
        check_masks(api.dataset, np.array(used, bool), name, scored=True)
    if len(dataset) < len(api.imgs):
        MMLogger.get_current_instance().warning(
            f'{len(dataset)} images are scored, the ann_file of the '
            f'evaluator has {len(api.imgs)}: the others count as images where '
            'nothing was found. For the score of these images alone give '
            'data set and evaluator a file of theirs.'
        )


def _check_image(listed: dict | None, info: dict, dataset: Dataset) -> None:
    path = info['img_path']
    if listed is None:
        reason = f'has no image of id {info["img_id"]!r} ({path})'
    elif osp.basename(listed['file_name']) != osp.basename(path):
        reason = (
            f'calls image {info["img_id"]!r} {listed["file_name"]}, the data '
            f'set {path}'
        )
    else:
        return
    raise DatasetLayoutError(
        f'the ann_file of the evaluator {reason}: it belongs to other data. '
        'Set val_evaluator.ann_file (test_evaluator.ann_file) to the '
        f"data set's file, {getattr(dataset, 'ann_file', '?')}."
    )


def _counts(annotation: dict, api: object, scored: list) -> bool:
    known = annotation['image_id'] in api.imgs
    return known and annotation['category_id'] in scored


def _check_categories(api: object, dataset: Dataset) -> list:
    """Compare labels; returns the ids of the categories that count."""
    labels = getattr(dataset, 'cat_ids', None)
    scored = api.getCatIds(catNms=list(dataset.metainfo['classes']))
    if labels is not None and list(labels) != scored:
        raise DatasetLayoutError(
            f'labels 0, 1, ... are category ids {_some(labels)} in the data '
            f'set ({getattr(dataset, "ann_file", "?")}) and {_some(scored)} '
            'in the ann_file of the evaluator: every score would be wrong. '
            "Set the evaluator's ann_file to the data set's file."
        )
    return scored


def _some(ids: list) -> str:
    return f'{list(ids)[:8]}' if len(ids) <= 8 else f'{list(ids)[:8]} ...'
