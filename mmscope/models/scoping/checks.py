"""The numbers of an exit gate: which are possible."""

from __future__ import annotations

import math
from typing import Any

from mmscope.models.layers import is_number


def check_threshold(value: Any) -> float | None:
    """Validate an exit threshold η.

    Args:
        value (Any): None (nobody exits) or a number >= 0; 0 lets everyone
            exit, above 1 nobody.

    Returns:
        float | None: The threshold.

    Raises:
        ValueError: If the value is not a number, negative or NaN.
    """
    if value is None:
        return None
    if not is_number(value) or value < 0:
        raise ValueError(
            'exit_threshold must be None or a number >= 0 (0: every image '
            f'exits, > 1: none does), got {value!r} of type '
            f'{type(value).__name__}'
        )
    return float(value)


def check_temperature(value: Any) -> float:
    """Validate the temperature T that logits are divided by.

    Args:
        value (Any): A finite number > 0; 1 changes nothing.

    Returns:
        float: The temperature.

    Raises:
        ValueError: If the value is something else.
    """
    if not is_number(value) or not 0 < value < math.inf:
        raise ValueError(
            'temperature must be a finite number > 0 (1 changes nothing), '
            f'got {value!r} of type {type(value).__name__}'
        )
    return float(value)
