"""What a backbone that nobody described gives: found by running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmscope.models.layers import in_evaluation

# Divisible by every stride that backbones of the hosts have.
PROBE_SIDE = 128


@dataclass(frozen=True)
class FeatureLevel:
    """One level of a backbone's output.

    Args:
        channels (int): Channels D.
        stride (int): Pixels of a side that a cell stands for; 0 for a vector,
            one cell whatever the size.
        rounds_up (bool): Whether a side that is no multiple of the stride
            gives one cell more, or its rest is left out. Defaults to True.
    """

    channels: int
    stride: int
    rounds_up: bool = True

    def side(self, pixels: int) -> int:
        """Count the cells along a side of so many pixels."""
        if not self.stride:
            return 1
        missing = self.stride - 1 if self.rounds_up else 0
        return (pixels + missing) // self.stride


def find_levels(
    backbone: nn.Module, in_channels: int, maps: bool
) -> tuple[FeatureLevel, ...]:
    """Run a backbone on small images of zeros to learn what it gives.

    Args:
        backbone (nn.Module): Any backbone of the hosts; in evaluation mode
            meanwhile, and left as it was.
        in_channels (int): Channels of its images.
        maps (bool): Whether every level must be a map; otherwise the last
            one may be a vector, which stands for the whole image.

    Returns:
        tuple[FeatureLevel, ...]: All levels if ``maps``, else the last one.

    Raises:
        ValueError: If it does not run at this size, or gives something else.
    """
    name = type(backbone).__name__
    outputs = _run(backbone, in_channels, PROBE_SIDE)
    wanted = outputs if maps else outputs[-1:]
    ranks = (4,) if maps else (2, 4)
    if any(level.ndim not in ranks for level in wanted):
        raise ValueError(
            f'ExitOnly needs {"maps" if maps else "a map or a vector"} of its '
            f'backbone; {name} gives {[tuple(x.shape) for x in outputs]} for '
            'one image: set its own out_type, or the out_type of ExitOnly'
        )
    found = tuple(_level(name, level) for level in wanted)
    if wanted[-1].ndim == 2:
        return found
    try:
        odd = _run(backbone, in_channels, PROBE_SIDE + 1)
    except ValueError:
        # It takes multiples alone, where nothing is rounded.
        return found
    return tuple(
        FeatureLevel(
            level.channels,
            level.stride,
            output.shape[-1] > PROBE_SIDE // level.stride,
        )
        for level, output in zip(found, odd[-len(found) :], strict=True)
    )


def _level(name: str, output: Tensor) -> FeatureLevel:
    if output.ndim == 2:
        return FeatureLevel(output.shape[1], 0)
    rows, columns = output.shape[-2:]
    if rows != columns or PROBE_SIDE % rows:
        raise ValueError(
            f'ExitOnly needs levels of one whole stride; {name} gives '
            f'{rows} x {columns} cells for {PROBE_SIDE} x {PROBE_SIDE} pixels'
        )
    return FeatureLevel(output.shape[1], PROBE_SIDE // rows)


def _run(backbone: nn.Module, in_channels: int, side: int) -> Sequence[Tensor]:
    name = type(backbone).__name__
    weight = next(backbone.parameters(), torch.empty(0))
    imgs = weight.new_zeros(1, in_channels, side, side)
    try:
        with torch.no_grad(), in_evaluation(backbone):
            outputs = backbone(imgs)
    # Whatever a backbone of another project says to a size it cannot take.
    except Exception as error:
        raise ValueError(
            f'ExitOnly runs its backbone on images of two sizes; {name} fails '
            f'on zeros of shape {tuple(imgs.shape)}: '
            f'{type(error).__name__}: {error}'
        ) from error
    whole = isinstance(outputs, (tuple, list)) and len(outputs) > 0
    if not whole or not all(isinstance(x, Tensor) for x in outputs):
        raise ValueError(
            f'ExitOnly needs a backbone that gives a tuple of tensors, '
            f'{name} gives {type(outputs).__name__}: set its out_indices, and '
            'options such as output_cls_token to what its host expects'
        )
    return outputs
