"""Models; each host is imported only where its framework is installed."""

from importlib.util import find_spec

from .backbones import MambaScope, VisionMamba
from .heads import MultiLabelExitHead

__all__ = ['MambaScope', 'MultiLabelExitHead', 'VisionMamba']

if find_spec('mmpretrain') is not None:
    from .classifiers import CoarseToFineClassifier, CoarseToFineClsHead

    __all__ += ['CoarseToFineClassifier', 'CoarseToFineClsHead']

if find_spec('mmseg') is not None:
    from .segmentors import EarlyExitEncoderDecoder

    __all__ += ['EarlyExitEncoderDecoder']
