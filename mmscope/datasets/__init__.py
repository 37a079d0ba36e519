"""Data sets that check themselves; each imports its host when asked for.

The checks of :mod:`layout` need no host.
"""

from typing import TYPE_CHECKING

from mmscope.registry import DATASETS, MODULES, lazy_attributes

from .class_check import ClassCheckHook
from .layout import (
    DatasetLayoutError,
    check_ade20k,
    check_camvid,
    check_pairs,
)

if TYPE_CHECKING:
    from .classification import ImageFolder
    from .detection import CocoDetectionDataset
    from .loading import BrokenImageError, LoadImage
    from .segmentation import ADE20KDataset, CamVidDataset

_LOADING = 'mmscope.datasets.loading'
__getattr__ = lazy_attributes(
    __name__,
    {**MODULES[DATASETS], 'BrokenImageError': _LOADING, 'LoadImage': _LOADING},
)

__all__ = [
    'ADE20KDataset',
    'BrokenImageError',
    'CamVidDataset',
    'ClassCheckHook',
    'CocoDetectionDataset',
    'DatasetLayoutError',
    'ImageFolder',
    'LoadImage',
    'check_ade20k',
    'check_camvid',
    'check_pairs',
]
