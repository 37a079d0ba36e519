"""Data samples of images that no pipeline packed."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from torch import nn

# Base class of a host's models, and its data samples.
SAMPLES = {
    ('mmpretrain.models.classifiers.base', 'BaseClassifier'): (
        'mmpretrain.structures',
        'DataSample',
    ),
    ('mmseg.models.segmentors.base', 'BaseSegmentor'): (
        'mmseg.structures',
        'SegDataSample',
    ),
    ('mmdet.models.detectors.base', 'BaseDetector'): (
        'mmdet.structures',
        'DetDataSample',
    ),
}


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
    for (module, base), (structures, sample) in SAMPLES.items():
        known = sys.modules.get(module)
        if known is not None and isinstance(model, getattr(known, base)):
            kind = getattr(import_module(structures), sample)
            shapes = ('ori_shape', 'img_shape', 'pad_shape')
            meta = dict.fromkeys((*shapes, 'batch_input_shape'), size)
            return kind(metainfo={**meta, 'scale_factor': (1.0, 1.0)})
    raise ValueError(
        f'{type(model).__name__} is no model of mmpretrain, mmseg or mmdet: '
        'give items with data samples instead of tensors'
    )
