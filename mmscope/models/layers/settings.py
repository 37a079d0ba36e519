"""Settings of models and their parts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any, TypeGuard

from torch import nn


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a setting is a real number; True and NaN are none."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    return not math.isnan(value)


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

    Args:
        *models (nn.Module): Each of their parts is left as it was: one that
            somebody froze in a model that trains stays frozen.

    Yields:
        None: The mode holds inside.
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
