"""Settings of models and their parts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, TypeGuard

from torch import nn


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a setting is a real number; True and NaN are none."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    return not math.isnan(value)


def check_whole(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number that is not too small, else raise."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least:
        raise ValueError(
            f'{name} must be a whole number of at least {least}, got {value!r}'
        )
    return int(value)


def check_rate(name: str, value: Any) -> float:
    """Return a number in [0, 1), else raise."""
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f'{name} must lie in [0, 1), got {value!r}')
    return value


@contextmanager
def holding(owner: Any, **settings: Any) -> Iterator[None]:
    """Give an object other settings for a while.

    Args:
        owner (Any): Module or plain object; it is left as it was, also where
            a setting replaces another one.
        **settings (Any): Attributes and their values, set in this order.

    Yields:
        None: The settings hold inside.
    """
    before = dict(vars(owner))
    try:
        for name, value in settings.items():
            setattr(owner, name, value)
        yield
    finally:
        vars(owner).update(before)
        for name in settings.keys() - before.keys():
            vars(owner).pop(name, None)


@contextmanager
def in_evaluation(*models: nn.Module) -> Iterator[None]:
    """Put modules in evaluation mode for a while.

    Each of their parts is left as it was: one that somebody froze in a model
    that trains stays frozen.
    """
    before = [
        (module, module.training)
        for model in models
        for module in model.modules()
    ]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for module, training in before:
            module.training = training
