"""Models; each host is imported only where its framework is installed."""

from importlib.util import find_spec

from .backbones import (
    MambaReg,
    TokenBackbone,
    TokenViT,
    VideoMamba,
    VisionMamba,
)
from .heads import MultiLabelExitHead
from .layers import Observed, observe
from .necks import LN2d, SimpleFPN
from .reduction import (
    DyVM,
    HiddenAlign,
    ReductionStage,
    RMeeTo,
    TokenReduction,
    find_reduced_backbone,
    forced_decisions,
    reduces_tokens,
)
from .scopes import MambaRegScope, MambaScope, VideoMambaScope, ViTScope
from .scoping import (
    CoarseBranch,
    CoarseToFine,
    FineBranch,
    TwoStage,
    at_threshold,
    attach_gate,
    is_two_stage,
)

__all__ = [
    'CoarseBranch',
    'CoarseToFine',
    'DyVM',
    'FineBranch',
    'HiddenAlign',
    'LN2d',
    'MambaReg',
    'MambaRegScope',
    'MambaScope',
    'MultiLabelExitHead',
    'Observed',
    'RMeeTo',
    'ReductionStage',
    'SimpleFPN',
    'TokenBackbone',
    'TokenReduction',
    'TokenViT',
    'TwoStage',
    'ViTScope',
    'VideoMamba',
    'VideoMambaScope',
    'VisionMamba',
    'at_threshold',
    'attach_gate',
    'find_reduced_backbone',
    'forced_decisions',
    'is_two_stage',
    'observe',
    'reduces_tokens',
]

if find_spec('mmpretrain') is not None:
    from .classifiers import (
        CoarseToFineClassifier,
        CoarseToFineClsHead,
        DistilledClassifier,
    )

    __all__ += [
        'CoarseToFineClassifier',
        'CoarseToFineClsHead',
        'DistilledClassifier',
    ]

if find_spec('mmseg') is not None:
    from .segmentors import EarlyExitEncoderDecoder

    __all__ += ['EarlyExitEncoderDecoder']

if find_spec('mmdet') is not None:
    from .detectors import EarlyExitCascadeRCNN, OneMaskCascadeRoIHead

    __all__ += ['EarlyExitCascadeRCNN', 'OneMaskCascadeRoIHead']
