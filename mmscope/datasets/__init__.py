from importlib.util import find_spec

from .layout import (
    DatasetLayoutError,
    check_ade20k,
    check_camvid,
    check_pairs,
)

__all__ = [
    'DatasetLayoutError',
    'check_ade20k',
    'check_camvid',
    'check_pairs',
]

# The classes extend mmsegmentation's; the checks above need no host.
if find_spec('mmseg') is not None and find_spec('mmcv') is not None:
    from .segmentation import ADE20KDataset, CamVidDataset

    __all__ += ['ADE20KDataset', 'CamVidDataset']
