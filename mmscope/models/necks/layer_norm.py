"""Layer normalisation over the channels of a map."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mmscope.registry import MODELS


@MODELS.register_module()
class LN2d(nn.LayerNorm):
    """LayerNorm of every pixel's channels, for maps (B, C, H, W).

    ViTDet, arXiv:2203.16527, section 3. ``norm_cfg=dict(type='LN')`` in a
    conv layer builds an ``nn.LayerNorm``, which normalises the last axis and
    fails on maps. A subclass of it all the same, so that mmcv names it ``ln``
    and MMEngine's ``norm_decay_mult`` knows it.

    Example::

        norm_cfg = dict(type='mmscope.LN2d', eps=1e-6)

    Args:
        num_channels (int): Channels C.
        eps (float): Added to the variance. Defaults to 1e-6.
    """

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            x (Tensor): (B, C, H, W); B may be 0.

        Returns:
            Tensor: (B, C, H, W), contiguous: mmcv's RoIAlign reads memory
            without looking at strides.

        Raises:
            ValueError: If ``x`` is not a map of C channels.
        """
        (channels,) = self.normalized_shape
        if x.ndim != 4 or x.shape[1] != channels:
            raise ValueError(
                f'LN2d({channels}) expects maps (B, {channels}, H, W), got '
                f'{tuple(x.shape)}: set its channels to those of the layer '
                'before it'
            )
        # (B, C, H, W) -> (B, H, W, C) and back
        x = F.layer_norm(
            x.permute(0, 2, 3, 1),
            self.normalized_shape,
            self.weight,
            self.bias,
            self.eps,
        )
        return x.permute(0, 3, 1, 2).contiguous()
