"""Data samples of images that no pipeline packed."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmscope.models.tasks import task_of

SHAPES = ('ori_shape', 'img_shape', 'pad_shape', 'batch_input_shape')


def new_sample(model: nn.Module, size: tuple[int, int]) -> Any:
    """Make the host's data sample of an image that is preprocessed.

    Args:
        model (nn.Module): Host model.
        size (tuple[int, int]): (H, W) of the image.

    Returns:
        BaseDataElement: With sizes in its metainfo.

    Raises:
        ValueError: If the model is of no known host.
    """
    task = task_of(model)
    if task is None:
        raise ValueError(
            f'{type(model).__name__} is no model of mmpretrain, mmseg or '
            'mmdet: give items with data samples instead of tensors'
        )
    meta = dict.fromkeys(SHAPES, size)
    return task.new_sample(metainfo={**meta, 'scale_factor': (1.0, 1.0)})
