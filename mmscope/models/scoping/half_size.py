"""Images at half their size, and what a backbone makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmscope.models.layers import in_evaluation
from mmscope.models.scoping.feature_levels import FeatureLevel
from mmscope.models.scoping.stages import halved
from mmscope.models.scoping.wrapping import running_statistics


class HalfSize:
    """Halves images, and lays coarse maps over those of full size.

    Args:
        levels (Sequence[FeatureLevel]): What the backbone gives.
        gives_maps (bool): Whether all levels are maps that are wanted, or
            the last one alone, for a vector.
    """

    def __init__(
        self, levels: Sequence[FeatureLevel], gives_maps: bool
    ) -> None:
        self.levels = levels
        self.gives_maps = gives_maps

    def size_of(self, size: Sequence[int]) -> tuple[int, int]:
        """Half of (height, width); for maps that of the next whole cells."""
        unit = 2
        if self.gives_maps:
            unit *= max(level.stride for level in self.levels)
            size = [side + -side % unit for side in size]
        height, width = (side // 2 for side in size)
        return height, width

    def halve(self, imgs: Tensor) -> Tensor:
        """Halve images (B, C, H, W), padded or cut to :meth:`size_of`."""
        height, width = imgs.shape[-2:]
        rows, columns = self.size_of((height, width))
        # An odd line of a classifier's image is left out.
        below = max(2 * rows - height, 0)
        right = max(2 * columns - width, 0)
        return halved(F.pad(imgs, (0, right, 0, below)))

    def look(self, backbone: nn.Module, imgs: Tensor) -> tuple[Tensor, ...]:
        """Run a backbone on halved images; running statistics stay.

        Raises:
            ValueError: If it takes the images, but not half their size.
        """
        try:
            with running_statistics(backbone):
                return backbone(self.halve(imgs))
        except torch.cuda.OutOfMemoryError:
            raise
        # Whatever a backbone of another project says.
        except Exception as error:
            # If it does not take full size either, it says so itself.
            with torch.no_grad(), in_evaluation(backbone):
                backbone(imgs)
            height, width = imgs.shape[-2:]
            rows, columns = self.size_of((height, width))
            raise ValueError(
                'ExitOnly also looks at half the size, and half of '
                f'{height} x {width} pixels, {rows} x {columns}, is too small '
                f'for {type(backbone).__name__}: resize images to more'
            ) from error

    def fit(
        self, outputs: Sequence[Tensor], size: Sequence[int]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Fit what a backbone gives for halved images to full ones.

        Args:
            outputs (Sequence[Tensor]): Its outputs.
            size (Sequence[int]): Full (height, width) in pixels.

        Returns:
            tuple[Tensor, tuple[Tensor, ...]]: The last output without the
            cells of the padding, which are no part of the image; all maps,
            upsampled 2 x 2 (nearest) and cut to the full sizes.
        """
        last = outputs[-1]
        if not self.gives_maps:
            return last, ()
        rows, columns = ((self.levels[-1].side(x) + 1) // 2 for x in size)
        height, width = size
        maps = tuple(
            _doubled(x)[..., : level.side(height), : level.side(width)]
            for level, x in zip(self.levels, outputs, strict=True)
        )
        return last[..., :rows, :columns], maps

    def check(
        self, name: str, maps: Sequence[Tensor], size: Sequence[int]
    ) -> None:
        """Refuse maps that coarse ones would not fit.

        Args:
            name (str): The backbone, for the message.
            maps (Sequence[Tensor]): Of full images.
            size (Sequence[int]): Their (height, width) in pixels.

        Raises:
            ValueError: If they have other sizes than the strides tell.
        """
        found = [tuple(x.shape[-2:]) for x in maps]
        told = [tuple(map(level.side, size)) for level in self.levels]
        if found != told:
            raise ValueError(
                f'{name} gives maps of {found} cells for {tuple(size)} '
                f'pixels, its strides tell {told}: let the data preprocessor '
                'pad images to multiples of '
                f'{max(level.stride for level in self.levels)}'
            )


def read_out(last: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Vector (B, D), tokens (B, n, D) and grid of a map, or of a vector."""
    if last.ndim == 2:
        return last, last.unsqueeze(1), (1, 1)
    tokens = last.flatten(2).transpose(1, 2)
    rows, columns = last.shape[-2:]
    return last.mean((-2, -1)), tokens, (rows, columns)


def _doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -2).repeat_interleave(2, -1)
