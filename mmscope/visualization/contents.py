"""From a host's data sample to what a picture shows."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from mmscope.visualization.views import Content, Detections, ImageClasses


def predicted_content(sample: Any) -> Content:
    """Read what a model of any host predicted.

    Raises:
        ValueError: If the sample has none of the known predictions.
    """
    if 'pred_sem_seg' in sample:
        return _class_map(sample.pred_sem_seg.data)
    if 'pred_instances' in sample:
        return _found_boxes(sample)
    if 'pred_label' in sample:
        scores = sample.pred_score[sample.pred_label].float()
        return ImageClasses(sample.pred_label.tolist(), scores.tolist())
    raise ValueError(
        'scope pictures show pred_sem_seg (mmseg), pred_instances (mmdet) or '
        f'pred_label (mmpretrain), the model gives {sorted(sample.keys())}'
    )


def true_content(sample: Any, info: dict) -> Content | None:
    """Read the ground truth in pixels of the picture, if any is known.

    ``info`` is what the data set itself knows of the image.
    """
    if 'gt_sem_seg' in sample:
        return _class_map(sample.gt_sem_seg.data)
    if 'pred_instances' in sample and 'instances' in info:
        return _true_boxes(sample, info['instances'])
    if 'gt_label' in sample:
        return ImageClasses(sample.gt_label.tolist())
    return None


def _class_map(labels: Tensor) -> np.ndarray:
    return labels.squeeze(0).cpu().numpy().astype(np.int64)


def _found_boxes(sample: Any) -> Detections:
    found = sample.pred_instances
    masks = found.masks if 'masks' in found else None
    return Detections(
        boxes=found.bboxes.float().cpu().numpy() * _scale(sample),
        labels=found.labels.cpu().numpy(),
        scores=found.scores.float().cpu().numpy(),
        masks=None if masks is None else masks.bool().cpu().numpy(),
    )


def _true_boxes(sample: Any, instances: list[dict]) -> Detections:
    # Those of the annotation file: whether the pipeline's are in pixels of
    # the resized or of the original image depends on its order.
    kept = [entry for entry in instances if not entry.get('ignore_flag')]
    boxes = np.array([entry['bbox'] for entry in kept], dtype=float)
    return Detections(
        boxes=boxes.reshape(-1, 4) * _scale(sample),
        labels=np.array([entry['bbox_label'] for entry in kept], dtype=int),
    )


def _scale(sample: Any) -> np.ndarray:
    """Factors from the original image, where boxes lie, to the resized."""
    return np.tile(sample.metainfo['scale_factor'], 2)
