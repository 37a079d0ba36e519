"""What was swept, what was fitted before, and which threshold was chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from mmscope.runtime import ExitChoice


@dataclass(frozen=True)
class FittedTemperature:
    """A temperature, and what it did on the images it was fitted to.

    Args:
        temperature (float): T.
        nll_before (float): Negative log-likelihood of the coarse
            predictions at T = 1, nats.
        nll (float): The same at T.
        ece_before (float): Expected calibration error at T = 1, percent.
        ece (float): The same at T.
        num_images (int): Images that it was fitted to.
        split (str): 'val' or 'test', '' where nobody said. Defaults to ''.
        same_images (bool): Whether they are the very images swept. Defaults
            to False.
    """

    temperature: float
    nll_before: float
    nll: float
    ece_before: float
    ece: float
    num_images: int
    split: str = ''
    same_images: bool = False


@dataclass(frozen=True)
class ChosenThreshold(ExitChoice):
    """A chosen threshold, and what it gives on the split that was swept.

    Args:
        reported (dict): The curve's row there, as JSON holds it.
        same_images (bool): Whether it was chosen on the very same images.
    """

    reported: dict[str, Any] = field(default_factory=dict)
    same_images: bool = False


class SweepMeta(msgspec.Struct, omit_defaults=True):
    """What a sweep is of; JSON has what is known.

    Args:
        name (str | None): Of the model, for tables. Defaults to None.
        config (str): Config file. Defaults to ''.
        checkpoint (str): Name of the checkpoint file. Defaults to ''.
        split (str | None): 'val' or 'test'. Defaults to None.
        num_images (int | None): Images swept. Defaults to None.
        params (int | None): Parameters of the model. Defaults to None.
        seed (int | None): Of the random exits. Defaults to None.
        calibration (FittedTemperature | None): Defaults to None.
        chosen (ChosenThreshold | None): Defaults to None.
    """

    name: str | None = None
    config: str = ''
    checkpoint: str = ''
    split: str | None = None
    num_images: int | None = None
    params: int | None = None
    seed: int | None = None
    calibration: FittedTemperature | None = None
    chosen: ChosenThreshold | None = None
