"""Mistakes of the user, told in one line instead of a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEBUG_VARIABLE = 'MMSCOPE_DEBUG'
PACKAGE = Path(__file__).resolve().parents[0]


class UserError(ValueError):
    """Wrong input: says what came, what was expected and what to do."""


class DatasetLayoutError(ValueError):
    """A data folder that is absent, incomplete or of another release."""


@contextmanager
def user_errors(*others: type[Exception]) -> Iterator[None]:
    """End the program with one message where the input is at fault.

    That is a UserError or DatasetLayoutError, and every other ValueError or
    RuntimeError that a ``raise`` of this package made on purpose; what torch
    or a host raises is a bug somewhere and keeps its traceback. With
    ``MMSCOPE_DEBUG=1`` all exceptions pass.

    Args:
        *others (type[Exception]): Further exceptions that mean wrong input
            in this place, whoever raises them, such as KeyError while a
            model is built from a config.

    Yields:
        None: The block runs inside.

    Raises:
        SystemExit: With status 1 and the message.
    """
    try:
        yield
    except (ValueError, RuntimeError, *others) as error:
        plain = isinstance(error, (UserError, DatasetLayoutError))
        known = plain or isinstance(error, others) or _is_deliberate(error)
        if not known or os.environ.get(DEBUG_VARIABLE) == '1':
            raise
        # str() of a KeyError is the repr of its message.
        named = isinstance(error, KeyError) and error.args
        text = error.args[0] if named else error
        hint = f'\n({DEBUG_VARIABLE}=1 shows the traceback)'
        sys.exit(f'error: {text}{"" if plain else hint}')


def _is_deliberate(error: Exception) -> bool:
    """Whether a ``raise`` statement of this package made the exception."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(
        frames
        and PACKAGE in Path(frames[-1].filename).parents
        and (frames[-1].line or '').startswith('raise')
    )
