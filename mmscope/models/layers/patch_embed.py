"""Images to tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """Cut an image into p x p patches and project each one.

    Args:
        in_channels (int): Image channels.
        embed_dims (int): Token channels D.
        patch_size (int): Patch side p in pixels.
    """

    def __init__(
        self, in_channels: int, embed_dims: int, patch_size: int
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(
            in_channels, embed_dims, patch_size, stride=patch_size
        )

    def forward(self, imgs: Tensor) -> Tensor:
        """Embed images whose sides are multiples of the patch.

        Args:
            imgs (Tensor): (B, C, H, W).

        Returns:
            Tensor: Tokens in raster order, (B, H / p * W / p, D).
        """
        # (B, D, h, w) -> (B, h * w, D)
        return self.proj(imgs).flatten(2).transpose(1, 2)


def pad_to_multiple(imgs: Tensor, multiple: int) -> Tensor:
    """Pad images with zeros at the right and the bottom.

    Args:
        imgs (Tensor): Normalised images, (B, C, H, W).
        multiple (int): Both sides of the result are multiples of it.

    Returns:
        Tensor: (B, C, H', W'); ``imgs`` itself where nothing is missing.
    """
    height, width = imgs.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if bottom == right == 0:
        return imgs
    return F.pad(imgs, (0, right, 0, bottom))
