"""Losses that make the coarse stage usable, shared by hosts and hook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmscope.models.layers import Record
from mmscope.models.losses.annotations import (
    check_labels,
    has_boxes,
    label_map,
)
from mmscope.models.losses.cell_targets import cell_targets
from mmscope.models.scoping import StageOutputs, TwoStage


class TrainsCoarseStage:
    """Marks hosts and heads whose own losses train the coarse stage."""


def stage_outputs(records: Sequence[Record]) -> StageOutputs:
    """Take the one record that a training step must leave.

    Raises:
        RuntimeError: If the backbone did not run exactly once, or not in
            training mode.
    """
    if len(records) != 1 or not isinstance(records[0], StageOutputs):
        found = [type(record).__name__ for record in records]
        raise RuntimeError(
            'the losses of the coarse stage need one forward of the backbone '
            f'in training mode a step, got {found or "none"}: call '
            'model.train(), and run the backbone once in loss()'
        )
    return records[0]


def exit_head_losses(
    backbone: TwoStage,
    outputs: StageOutputs,
    data_samples: Sequence[Any],
    ignored: int | None,
) -> dict[str, Tensor]:
    """Losses of the backbone's exit head, and of its map, for one batch.

    Args:
        backbone (TwoStage): With or without an exit head.
        outputs (StageOutputs): Of the same batch.
        data_samples (Sequence[Any]): With ``gt_sem_seg`` or
            ``gt_instances``.
        ignored (int | None): Label that the host ignores, see
            :func:`ignored_label`.

    Returns:
        dict[str, Tensor]: Empty without an exit head.
    """
    head: Any = backbone.exit_head
    if head is None:
        return {}
    device = outputs.coarse_cls.device
    targets = multi_label_targets(
        data_samples, head.num_classes, ignored=ignored
    )
    losses = head.loss(
        outputs.coarse_cls, outputs.fine_cls, targets.to(device)
    )
    if getattr(head, 'has_map', False):
        assert outputs.grid is not None
        cells = map_targets(
            backbone, outputs.grid, data_samples, ignored=ignored
        )
        features = outputs.coarse_features
        losses.update(head.map_loss(features, cells.to(device)))
    return losses


def map_targets(
    backbone: TwoStage,
    grid: tuple[int, int],
    data_samples: Sequence[Any],
    scales: Sequence[tuple[float, float]] | None = None,
    *,
    ignored: int | None,
) -> Tensor:
    """What the map of a backbone's exit head shall say.

    Args:
        backbone (TwoStage): Its exit head has a map.
        grid (tuple[int, int]): Coarse grid (h, w) of the batch.
        data_samples (Sequence[Any]): See :func:`cell_targets`.
        scales (Sequence[tuple[float, float]] | None): See
            :func:`cell_targets`. Defaults to None.
        ignored (int | None): See :func:`cell_targets`.

    Returns:
        Tensor: (B, h * w, K).
    """
    head: Any = backbone.exit_head
    # The coarse stage looks at half the pixels of a side.
    return cell_targets(
        data_samples,
        grid,
        2 * backbone.patch_stride,
        head.num_classes,
        head.map_nothing,
        scales,
        ignored=ignored,
    )


def feature_consistency(outputs: StageOutputs) -> Tensor:
    """Pull coarse maps towards the fine ones, which do not move.

    Mean over levels of ||coarse - fine||^2 / ||fine||^2, so that no level's
    scale counts more than another's.

    Args:
        outputs (StageOutputs): Maps of both stages.

    Returns:
        Tensor: Scalar, float32.
    """
    ratios = []
    for coarse, fine in zip(
        outputs.coarse_maps, outputs.fine_maps, strict=True
    ):
        fine = fine.detach().float()
        error = (coarse.float() - fine).square().sum()
        ratios.append(error / fine.square().sum().clamp(min=1e-12))
    return torch.stack(ratios).mean()


def multi_label_targets(
    data_samples: Sequence[Any], num_classes: int, *, ignored: int | None
) -> Tensor:
    """Find out which classes each image's annotation holds.

    Args:
        data_samples (Sequence[Any]): With ``gt_instances.labels`` (those
            count where there is a label map, too), ``gt_sem_seg``,
            ``gt_label`` or ``gt_score``.
        num_classes (int): C.
        ignored (int | None): Label of maps that does not count, see
            :func:`ignored_label`.

    Returns:
        Tensor: (B, C) float, 1 where present; a row of NaN where a label map
        holds nothing but ignored pixels, about which nothing is known.

    Raises:
        ValueError: If a label is not below ``num_classes`` or a sample has
            no annotation.
    """
    rows = [_row(s, num_classes, ignored) for s in data_samples]
    return torch.stack(rows) if rows else torch.zeros(0, num_classes)


def _row(sample: Any, num_classes: int, ignored: int | None) -> Tensor:
    unknown = False
    if has_boxes(sample):
        labels = sample.gt_instances.labels
    elif 'gt_sem_seg' in sample:
        labels = label_map(sample).unique()
        if ignored is not None:
            labels = labels[labels != ignored]
        unknown = not len(labels)
    # Mixup and CutMix leave gt_label as it was before.
    elif 'gt_score' in sample:
        labels = sample.gt_score.nonzero()[:, 0]
    elif 'gt_label' in sample:
        labels = sample.gt_label.unique()
    else:
        raise ValueError(
            'exit-head targets need gt_sem_seg, gt_instances, gt_label or '
            f'gt_score, got a data sample with {sorted(sample.keys())}'
        )
    labels = labels.cpu().long()
    check_labels(labels, num_classes, ignored)
    row = torch.full((num_classes,), torch.nan if unknown else 0.0)
    row[labels] = 1.0
    return row
