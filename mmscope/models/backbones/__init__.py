"""Token backbones: the protocol, and one file a family."""

from .token_backbone import TokenBackbone
from .video_mamba import VideoMamba
from .vim import VisionMamba

__all__ = ['TokenBackbone', 'VideoMamba', 'VisionMamba']
