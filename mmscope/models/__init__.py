"""Models; what extends a host imports it when it is asked for."""

from typing import TYPE_CHECKING

from mmscope.registry import MODELS, MODULES, lazy_attributes

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
    ExitOnly,
    FineBranch,
    TwoStage,
    at_threshold,
    attach_gate,
    is_two_stage,
)

if TYPE_CHECKING:
    from .classifiers import (
        CoarseToFineClassifier,
        CoarseToFineClsHead,
        DistilledClassifier,
    )
    from .detectors import EarlyExitCascadeRCNN, OneMaskCascadeRoIHead
    from .segmentors import EarlyExitEncoderDecoder

__getattr__ = lazy_attributes(__name__, MODULES[MODELS])


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULES[MODELS]})


# Without what needs a host: a star import asks for all of these.
__all__ = [
    'CoarseBranch',
    'CoarseToFine',
    'DyVM',
    'ExitOnly',
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
