"""Checks of the settings of token reductions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mmscope.models.layers import is_number


def whole(unit: str, least: int) -> Callable[[str, int], int]:
    """Make the check of a whole number, which raises ValueError."""

    def check(name: str, value: int) -> int:
        # Infinity has no remainder.
        if not (is_number(value) and value >= least and value % 1 == 0):
            raise ValueError(
                f'{name} must be a whole number of {unit}, at least {least}, '
                f'got {value!r}'
            )
        return int(value)

    return check


def one_of(choices: Sequence[str]) -> Callable[[str, str], str]:
    """Make the check of a choice, which raises ValueError."""

    def check(name: str, value: str) -> str:
        if value not in choices:
            raise ValueError(f'{name} must be one of {choices}, got {value!r}')
        return value

    return check


def share(name: str, value: float) -> float:
    """Return a fraction in (0, 1]."""
    if not (is_number(value) and 0 < value <= 1):
        raise ValueError(f'{name} must lie in (0, 1], got {value!r}')
    return value


def probability(name: str, value: float) -> float:
    """Return a number in (0, 1)."""
    if not (is_number(value) and 0 < value < 1):
        raise ValueError(f'{name} must lie in (0, 1), got {value!r}')
    return value


def weight(name: str, value: float) -> float:
    """Return the weight of a loss, a finite number >= 0."""
    if not (is_number(value) and 0 <= value < math.inf):
        raise ValueError(f'{name} must be >= 0 and finite, got {value!r}')
    return value


def flag(name: str, value: bool) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise ValueError(f'{name} must be True or False, got {value!r}')
    return value
