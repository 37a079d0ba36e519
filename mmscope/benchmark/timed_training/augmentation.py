"""Random changes of images that are on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmscope.errors import UserError

LOADING = ('LoadImageFromFile', 'PackInputs')


@dataclass(frozen=True)
class Augmentation:
    """Random crops and flips, as a training pipeline asks for.

    Args:
        crop (int | None): Side after the crop; None does not crop. Defaults
            to None.
        padding (int): Black pixels on each side before it. Defaults to 0.
        flip (float): Probability of a horizontal flip. Defaults to 0.
    """

    crop: int | None = None
    padding: int = 0
    flip: float = 0.0

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Change images (B, 3, H, W) uint8, each by itself.

        The generator is on their device; the result has the crop's size.
        """
        batch = len(pixels)
        pixels = F.pad(pixels, [self.padding] * 4)
        height, width = pixels.shape[-2:]
        sides = (self.crop or height, self.crop or width)

        def draw(limit: int) -> Tensor:
            return torch.randint(
                limit + 1,
                (batch, 1),
                generator=generator,
                device=pixels.device,
            )

        rows, columns = (
            draw(whole - part) + torch.arange(part, device=pixels.device)
            for whole, part in zip((height, width), sides, strict=True)
        )
        chance = torch.rand(
            (batch, 1), generator=generator, device=pixels.device
        )
        columns = torch.where(chance < self.flip, columns.flip(1), columns)
        images = torch.arange(batch, device=pixels.device)[:, None, None]
        # Indices first, so that the channels come last.
        found = pixels[images, :, rows[:, :, None], columns[:, None, :]]
        return found.permute(0, 3, 1, 2).contiguous()


def augmentation_of(pipeline: Sequence[dict]) -> Augmentation:
    """Read what a config's training pipeline does.

    Raises:
        UserError: If the pipeline does what is not there.
    """
    found: dict = {}
    for transform in pipeline:
        options = dict(transform)
        kind = str(options.pop('type')).rpartition('.')[2]
        if kind in LOADING:
            continue
        if kind == 'RandomCrop' and set(options) <= {'crop_size', 'padding'}:
            found['crop'] = int(options['crop_size'])
            found['padding'] = int(options.get('padding') or 0)
        elif kind == 'RandomFlip' and set(options) <= {'prob', 'direction'}:
            if options.get('direction', 'horizontal') != 'horizontal':
                raise UserError(_unsupported(transform))
            found['flip'] = float(options['prob'])
        else:
            raise UserError(_unsupported(transform))
    return Augmentation(**found)


def _unsupported(transform: dict) -> str:
    return (
        f'{dict(transform)} cannot be done on the device: what is there is '
        'RandomCrop (crop_size, padding as numbers) and RandomFlip '
        '(horizontal, prob)'
    )
