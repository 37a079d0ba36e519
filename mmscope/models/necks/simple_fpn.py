"""A feature pyramid out of one map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmscope.registry import MODELS

NUM_SCALES = 4


@MODELS.register_module()
class SimpleFPN(BaseModule):
    """Simple feature pyramid of a plain backbone.

    ViTDet, arXiv:2203.16527, section 3: deconvolutions and pooling turn the
    one map of stride 16 into strides 4, 8, 16 and 32, each then passes a
    1 x 1 and a 3 x 3 convolution. Levels beyond those are the last one, every
    second pixel taken. Odd sides are rounded up.

    Example::

        neck = dict(
            type='mmscope.SimpleFPN',
            backbone_channels=192,
            out_channels=256,
            norm_cfg=dict(type='mmscope.LN2d'),
            num_outs=5,
        )

    Args:
        backbone_channels (int): Channels D of the map, a multiple of 4.
        out_channels (int): Channels of every level. Defaults to 256.
        norm_cfg (dict | None): Normalisation of any registered type, in
            ViTDet ``dict(type='mmscope.LN2d')``; None has none, and gives the
            convolutions a bias. Defaults to None.
        num_outs (int): Levels, at least 4. Defaults to 5.
        init_cfg (dict | None): MMEngine initialisation. Defaults to None.

    Raises:
        ValueError: If an argument is out of range or the norm is unknown.
    """

    def __init__(
        self,
        backbone_channels: int,
        out_channels: int = 256,
        norm_cfg: dict[str, Any] | None = None,
        num_outs: int = 5,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if backbone_channels < 4 or backbone_channels % 4:
            raise ValueError(
                'backbone_channels must be a positive multiple of 4 (stride '
                f'4 has a quarter of them), got {backbone_channels}'
            )
        if num_outs < NUM_SCALES:
            raise ValueError(
                f'num_outs must be at least {NUM_SCALES} (strides 4, 8, 16, '
                f'32), got {num_outs}'
            )
        self.backbone_channels = backbone_channels
        self.num_outs = num_outs
        self.levels = nn.ModuleList(
            nn.Sequential(*scale, *_merge(channels, out_channels, norm_cfg))
            for scale, channels in _scales(backbone_channels, norm_cfg)
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs (Sequence[Tensor]): One map of stride 16, (B, D, h, w).

        Returns:
            tuple[Tensor, ...]: ``num_outs`` maps, (B, C, 4h, 4w) first.

        Raises:
            ValueError: If there is not one map, or its channels differ.
        """
        if isinstance(inputs, Tensor) or len(inputs) != 1:
            got = 'a tensor' if isinstance(inputs, Tensor) else len(inputs)
            raise ValueError(
                f'SimpleFPN takes a tuple of one map, got {got}: set '
                "backbone.out_type='featmap' with one out index, such as -1"
            )
        (x,) = inputs
        if x.ndim != 4 or x.shape[1] != self.backbone_channels:
            raise ValueError(
                f'SimpleFPN expects a map (B, {self.backbone_channels}, h, '
                f'w), got {tuple(x.shape)}: set neck.backbone_channels to the '
                "backbone's embed_dims"
            )
        outs = [level(x) for level in self.levels]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], kernel_size=1, stride=2))
        return tuple(outs)


def _scales(
    channels: int, norm_cfg: dict[str, Any] | None
) -> list[tuple[list[nn.Module], int]]:
    """Layers that bring stride 16 to 4, 8, 16, 32, and their channels."""
    half, quarter = channels // 2, channels // 4
    times_4 = [
        nn.ConvTranspose2d(channels, half, 2, stride=2),
        *_norm(norm_cfg, half),
        nn.GELU(),
        nn.ConvTranspose2d(half, quarter, 2, stride=2),
    ]
    times_2: list[nn.Module] = [
        nn.ConvTranspose2d(channels, half, 2, stride=2)
    ]
    # ceil_mode: a map of one pixel has a level below it, too.
    halved: list[nn.Module] = [nn.MaxPool2d(2, stride=2, ceil_mode=True)]
    return [
        (times_4, quarter),
        (times_2, half),
        ([], channels),
        (halved, channels),
    ]


def _merge(
    in_channels: int, out_channels: int, norm_cfg: dict[str, Any] | None
) -> list[nn.Module]:
    bias = norm_cfg is None
    return [
        nn.Conv2d(in_channels, out_channels, 1, bias=bias),
        *_norm(norm_cfg, out_channels),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=bias),
        *_norm(norm_cfg, out_channels),
    ]


def _norm(norm_cfg: dict[str, Any] | None, channels: int) -> list[nn.Module]:
    """Build a norm without mmcv, which this module must not need."""
    if norm_cfg is None:
        return []
    cfg = dict(norm_cfg)
    cls = MODELS.get(cfg.pop('type'))
    if cls is None:
        raise ValueError(
            f'norm_cfg {norm_cfg} is of no registered type: use '
            "dict(type='mmscope.LN2d'), or install mmcv for its norms"
        )
    trainable = cfg.pop('requires_grad', True)
    if issubclass(cls, nn.GroupNorm):
        norm = cls(num_channels=channels, **cfg)
    else:
        norm = cls(channels, **cfg)
    return [norm.requires_grad_(trainable)]
