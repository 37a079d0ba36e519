"""Which classes the cells of a coarse grid show, as annotations say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmscope.models.losses.annotations import (
    check_labels,
    has_boxes,
    label_map,
)


def cell_targets(
    data_samples: Sequence[Any],
    grid: tuple[int, int],
    cell: int,
    num_classes: int,
    nothing: bool,
    scales: Sequence[tuple[float, float]] | None = None,
    *,
    ignored: int | None,
) -> Tensor:
    """Share the cells of a coarse grid among the classes they show.

    Segmentation: the share of a cell's labelled pixels by class. Detection:
    the share of its area by the class of the box that covers it, painted to
    whole pixels; of boxes that overlap the smaller lies in front. What no
    box covers, padding too, is 'nothing', the class behind all others.

    Args:
        data_samples (Sequence[Any]): With ``gt_sem_seg`` (label maps) or
            ``gt_instances`` (``bboxes`` xyxy in pixels, ``labels``).
        grid (tuple[int, int]): Coarse grid (h, w) from the top left pixel.
        cell (int): Pixels of a cell's side.
        num_classes (int): Classes C of the data set.
        nothing (bool): Whether there is a class 'nothing'.
        scales (Sequence[tuple[float, float]] | None): Pixels of the model's
            input for one of the annotation, (rows, columns) of each sample;
            None for 1. Defaults to None.
        ignored (int | None): Label that does not count, see
            :func:`ignored_label`.

    Returns:
        Tensor: (B, h * w, K) float32, K = C + 1 with 'nothing', else C; rows
        sum to 1, or are NaN where a cell has no labelled pixel.

    Raises:
        ValueError: If a sample has another kind of annotation, or a label is
            not below C.
    """
    scales = scales or [(1.0, 1.0)] * len(data_samples)
    size = (grid[0] * cell, grid[1] * cell)
    number = num_classes + int(nothing)
    if not data_samples:
        return torch.zeros(0, grid[0] * grid[1], number)
    rows = []
    for sample, scale in zip(data_samples, scales, strict=True):
        if nothing:
            labels = _painted(sample, size, num_classes, scale)
            scale = (1.0, 1.0)
        else:
            labels = _checked_map(sample)
        # Painted labels are all known.
        unknown = None if nothing else ignored
        rows.append(_shares(labels, grid, cell, number, scale, unknown))
    return torch.stack(rows)


def _checked_map(sample: Any) -> Tensor:
    if 'gt_sem_seg' not in sample:
        raise ValueError(
            'the map of this exit head learns from gt_sem_seg, got a data '
            f'sample with {sorted(sample.keys())}: for boxes set '
            'exit_head.map_nothing=True, for single labels leave the map out'
        )
    return label_map(sample)


def _painted(
    sample: Any,
    size: tuple[int, int],
    num_classes: int,
    scale: tuple[float, float],
) -> Tensor:
    if not has_boxes(sample):
        raise ValueError(
            'map_nothing=True is for boxes in gt_instances, got a data '
            f'sample with {sorted(sample.keys())}: set '
            'exit_head.map_nothing=False for label maps'
        )
    found = sample.gt_instances
    boxes, labels = getattr(found.bboxes, 'tensor', found.bboxes), found.labels
    check_labels(labels, num_classes)
    # In Python: a box is a slice.
    sides = boxes.new_tensor([scale[1], scale[0]] * 2)
    boxes = (boxes * sides).round().long().clamp(min=0)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    order = areas.argsort(descending=True, stable=True)
    canvas = torch.full(size, num_classes)
    for (left, top, right, bottom), label in zip(
        boxes[order].tolist(), labels[order].tolist(), strict=True
    ):
        canvas[top:bottom, left:right] = label
    return canvas.to(boxes.device)


def _shares(
    labels: Tensor,
    grid: tuple[int, int],
    cell: int,
    number: int,
    scale: tuple[float, float],
    ignored: int | None,
) -> Tensor:
    """Share of each cell's labelled pixels by class, (h * w, number)."""
    rows, columns = (
        _cell_of_pixels(side, cells, cell / factor, labels.device)
        for side, cells, factor in zip(labels.shape, grid, scale, strict=True)
    )
    known = torch.ones_like(labels, dtype=torch.bool)
    if ignored is not None:
        known = labels != ignored
    check_labels(labels[known], number, ignored)
    index = (rows[:, None] * grid[1] + columns) * number + labels
    counts = index[known].bincount(minlength=grid[0] * grid[1] * number)
    counts = counts.view(-1, number).float()
    return counts / counts.sum(1, keepdim=True)


def _cell_of_pixels(
    side: int, cells: int, pixels: float, device: torch.device
) -> Tensor:
    """Cell of each pixel of a side, by the pixel's centre, (side,)."""
    centres = torch.arange(side, device=device, dtype=torch.float64) + 0.5
    return (centres / pixels).long().clamp(max=cells - 1)
