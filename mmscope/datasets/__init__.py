from importlib.util import find_spec

from .class_check import ClassCheckHook
from .layout import (
    DatasetLayoutError,
    check_ade20k,
    check_camvid,
    check_pairs,
)

__all__ = [
    'ClassCheckHook',
    'DatasetLayoutError',
    'check_ade20k',
    'check_camvid',
    'check_pairs',
]

# The classes extend those of mmcv and the hosts; the checks need neither.
if find_spec('mmcv') is not None:
    from .loading import BrokenImageError, LoadImage

    __all__ += ['BrokenImageError', 'LoadImage']
    if find_spec('mmseg') is not None:
        from .segmentation import ADE20KDataset, CamVidDataset

        __all__ += ['ADE20KDataset', 'CamVidDataset']
    if find_spec('mmpretrain') is not None:
        from .classification import ImageFolder

        __all__ += ['ImageFolder']
    if find_spec('mmdet') is not None:
        from .detection import CocoDetectionDataset

        __all__ += ['CocoDetectionDataset']
