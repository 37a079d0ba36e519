"""Values of command-line options, refused with what was expected."""

from __future__ import annotations

import argparse


def whole(text: str) -> int:
    """Read an integer of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(
            f'expected a whole number, got {text!r}'
        )
    return int(text)


def positive(text: str) -> int:
    """Read an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f'expected an integer of at least 1, got {text!r}'
        )
    return int(text)


def fraction(text: str) -> float:
    """Read a number in [0, 1]."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(
            f'expected a fraction in [0, 1], got {text!r}'
        )
    return value
