"""Token backbones: the protocol, and one file a family."""

from .mamba_reg import MambaReg
from .token_backbone import TokenBackbone
from .token_vit import TokenViT
from .video_mamba import VideoMamba
from .vim import VisionMamba

__all__ = [
    'MambaReg',
    'TokenBackbone',
    'TokenViT',
    'VideoMamba',
    'VisionMamba',
]
