"""Images to tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """Cut an image into p x p patches and project each one.

    Args:
        in_channels (int): Image channels.
        embed_dims (int): Token channels D.
        patch_size (int): Patch side p in pixels.
        stride (int | None): Pixels from one patch to the next; below p they
            overlap. None for p. Defaults to None.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        patch_size: int,
        stride: int | None = None,
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(
            in_channels, embed_dims, patch_size, stride=stride or patch_size
        )

    def forward(self, imgs: Tensor) -> Tensor:
        """Embed images that whole patches cover.

        Args:
            imgs (Tensor): (B, C, H, W).

        Returns:
            Tensor: Tokens in raster order, (B, h * w, D).
        """
        # (B, D, h, w) -> (B, h * w, D)
        return self.proj(imgs).flatten(2).transpose(1, 2)


def pad_to_size(imgs: Tensor, size: Sequence[int]) -> Tensor:
    """Pad images with zeros at the right and the bottom.

    Args:
        imgs (Tensor): Normalised images, (B, C, H, W).
        size (Sequence[int]): Wanted (H', W'), not below (H, W).

    Returns:
        Tensor: (B, C, H', W'); ``imgs`` itself where nothing is missing.
    """
    bottom, right = (
        wanted - side
        for wanted, side in zip(size, imgs.shape[-2:], strict=True)
    )
    if bottom == right == 0:
        return imgs
    return F.pad(imgs, (0, right, 0, bottom))


def pad_to_multiple(imgs: Tensor, multiple: int) -> Tensor:
    """Pad images to whole multiples; see :func:`pad_to_size`.

    Args:
        imgs (Tensor): Normalised images, (B, C, H, W).
        multiple (int): Both sides of the result are multiples of it.

    Returns:
        Tensor: (B, C, H', W').
    """
    return pad_to_size(
        imgs, [-(-side // multiple) * multiple for side in imgs.shape[-2:]]
    )
