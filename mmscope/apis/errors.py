"""Mistakes of the user, told in one line instead of a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mmscope.datasets.layout import DatasetLayoutError

DEBUG_VARIABLE = 'MMSCOPE_DEBUG'


class UserError(ValueError):
    """Wrong input: says what came, what was expected and what to do."""


@contextmanager
def user_errors(*others: type[Exception]) -> Iterator[None]:
    """End the program with one message where the input is at fault.

    With ``MMSCOPE_DEBUG=1`` the exception passes, traceback and all.

    Args:
        *others (type[Exception]): Further exceptions that mean wrong input
            in this place, such as ValueError while a model is built.

    Yields:
        None: The block runs inside.

    Raises:
        SystemExit: With status 1 and the message, for a UserError, a
            DatasetLayoutError or one of ``others``.
    """
    try:
        yield
    except (UserError, DatasetLayoutError, *others) as error:
        if os.environ.get(DEBUG_VARIABLE) == '1':
            raise
        text = error.args[0] if error.args else error
        hint = ''
        if not isinstance(error, (UserError, DatasetLayoutError)):
            hint = f'\n({DEBUG_VARIABLE}=1 shows the traceback)'
        sys.exit(f'error: {text}{hint}')
