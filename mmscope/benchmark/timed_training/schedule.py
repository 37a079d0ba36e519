"""A config's learning rate, stretched to other lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mmscope.errors import UserError
from mmscope.runtime import type_name

KINDS = ('LinearLR', 'CosineAnnealingLR')


@dataclass(frozen=True)
class Schedule:
    """A linear warm-up and a cosine, over fractions of a training.

    ``start`` and ``end`` are factors on the rate.
    """

    warm_up: float
    start: float
    end: float

    def factor(self, progress: float) -> float:
        """Return the factor on the rate at a fraction of the training."""
        progress = min(max(progress, 0.0), 1.0)
        if progress < self.warm_up:
            return self.start + (1 - self.start) * progress / self.warm_up
        rest = (progress - self.warm_up) / (1 - self.warm_up)
        cosine = (1 + math.cos(math.pi * rest)) / 2
        return self.end + (1 - self.end) * cosine


def schedule_of(schedulers: Sequence[dict], rate: float) -> Schedule:
    """Read a config's ``param_scheduler``, whose optimizer has a rate.

    Raises:
        UserError: If it is anything but a linear warm-up and a cosine.
    """
    kinds = tuple(map(type_name, schedulers))
    if kinds != KINDS or not schedulers[1].get('end'):
        raise UserError(
            'a schedule can be stretched if it is LinearLR and then '
            f'CosineAnnealingLR with an end, this one is {kinds}'
        )
    warm_up, cosine = schedulers
    return Schedule(
        warm_up.get('end', 0) / cosine['end'],
        warm_up.get('start_factor', 1 / 3),
        (cosine.get('eta_min') or 0.0) / rate,
    )
