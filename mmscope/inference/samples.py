"""Data samples that no pipeline packed, and images that fit no backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmscope.inference.reading import ImageFailure, name_of
from mmscope.inference.waiting import Waiting
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


def refuse_images(
    backbone: nn.Module, batch: Sequence[Waiting], imgs: Tensor
) -> bool:
    """Let images be failures of their own that a backbone does not take.

    Args:
        backbone (nn.Module): Says so by ``check_images``; those of other
            projects are not asked.
        batch (Sequence[Waiting]): Of one size, so all are refused, or none.
        imgs (Tensor): They, (B, C, H, W), as the data preprocessor gave
            them: it may have padded small ones.

    Returns:
        bool: Whether they are.
    """
    check = getattr(backbone, 'check_images', None)
    try:
        if check is not None:
            # Size and channels are an image's own; the type is the model's.
            check(torch.empty(imgs.shape, device='meta'))
    except ValueError as error:
        for one in batch:
            name = getattr(one.sample, 'img_path', None)
            name = name_of(one.ticket.number, name)
            one.end(ImageFailure(name, str(error)))
        return True
    return False
