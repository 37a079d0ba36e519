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
    from .decoding import BrokenImageError
    from .demo_objects import RenderedObjects
    from .detection import CocoDetectionDataset
    from .loading import LoadImage
    from .segmentation import (
        ADE20KDataset,
        CamVidDataset,
        SegmentationFolder,
    )

_LAZY = {
    **MODULES[DATASETS],
    'BrokenImageError': 'mmscope.datasets.decoding',
    'LoadImage': 'mmscope.datasets.loading',
}
__getattr__ = lazy_attributes(__name__, _LAZY)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


# Without what needs a host: a star import asks for all of these.
__all__ = [
    'ClassCheckHook',
    'DatasetLayoutError',
    'check_ade20k',
    'check_camvid',
    'check_pairs',
]
