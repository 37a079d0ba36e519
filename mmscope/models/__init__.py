"""Models; each host is imported only where its framework is installed."""

from importlib.util import find_spec

from .backbones import CoarseBranch, FineBranch, MambaScope, VisionMamba
from .heads import MultiLabelExitHead
from .necks import LN2d, SimpleFPN

__all__ = [
    'CoarseBranch',
    'FineBranch',
    'LN2d',
    'MambaScope',
    'MultiLabelExitHead',
    'SimpleFPN',
    'VisionMamba',
]

if find_spec('mmpretrain') is not None:
    from .classifiers import CoarseToFineClassifier, CoarseToFineClsHead

    __all__ += ['CoarseToFineClassifier', 'CoarseToFineClsHead']

if find_spec('mmseg') is not None:
    from .segmentors import EarlyExitEncoderDecoder

    __all__ += ['EarlyExitEncoderDecoder']

if find_spec('mmdet') is not None:
    from .detectors import EarlyExitCascadeRCNN, OneMaskCascadeRoIHead

    __all__ += ['EarlyExitCascadeRCNN', 'OneMaskCascadeRoIHead']
