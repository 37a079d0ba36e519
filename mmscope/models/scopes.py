"""Scoped backbones: a family, and coarse-to-fine scoping before it."""

from __future__ import annotations

from mmscope.models.backbones import (
    MambaReg,
    TokenViT,
    VideoMamba,
    VisionMamba,
)
from mmscope.models.scoping.coarse_to_fine import CoarseToFine
from mmscope.registry import MODELS


@MODELS.register_module()
class MambaScope(CoarseToFine, VisionMamba):
    """Two-stage Vision Mamba with one set of weights.

    MambaScope, arXiv:2512.00647. Arguments are those of
    :class:`CoarseToFine` and :class:`VisionMamba`.

    Example::

        backbone = dict(
            type='mmscope.MambaScope',
            arch='tiny',
            exit_head=dict(type='mmscope.MultiLabelExitHead', num_classes=150),
            exit_threshold=0.8,
        )
    """


@MODELS.register_module()
class VideoMambaScope(CoarseToFine, VideoMamba):
    """Two-stage VideoMamba; see :class:`MambaScope`.

    Example::

        backbone = dict(type='mmscope.VideoMambaScope', arch='small')
    """


@MODELS.register_module()
class MambaRegScope(CoarseToFine, MambaReg):
    """Two-stage Mamba-Reg; see :class:`MambaScope`.

    Example::

        backbone = dict(type='mmscope.MambaRegScope', arch='small')
    """


@MODELS.register_module()
class ViTScope(CoarseToFine, TokenViT):
    """Two-stage ViT in the same frame, which was CF-ViT's first.

    CF-ViT, arXiv:2203.03821: the cls token's attention says what to refine.

    Example::

        backbone = dict(type='mmscope.ViTScope', arch='small')
    """
