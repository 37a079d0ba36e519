"""Frames as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

MISSING = '-'


@dataclass(frozen=True)
class Column:
    """How one column of a frame is shown.

    Args:
        key (str): Its name.
        title (str): Heading.
        spec (str): Format specification of numbers. Defaults to ''.
        std (str | None): Column of a spread to show after ±. Defaults to
            None.
    """

    key: str
    title: str
    spec: str = ''
    std: str | None = None

    def cells(self, frame: pd.DataFrame) -> list[str]:
        """Format the column; '-' where there is nothing."""
        cells = [self._cell(value) for value in frame[self.key]]
        if self.std not in frame:
            return cells
        return [
            f'{cell} ± {spread:{self.spec}}' if spread > 0 else cell
            for cell, spread in zip(cells, frame[self.std], strict=True)
        ]

    def _cell(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        return MISSING if pd.isna(value) else format(value, self.spec)


def format_table(
    rows: pd.DataFrame | Iterable[Mapping[str, Any]],
    columns: Sequence[Column],
) -> str:
    """Format rows as a Markdown table.

    Args:
        rows (pd.DataFrame | Iterable[Mapping[str, Any]]): A frame, or what
            makes one.
        columns (Sequence[Column]): Columns; one that no row has is left out.

    Returns:
        str: The table, numbers to the right, text to the left.
    """
    frame = rows
    if not isinstance(rows, pd.DataFrame):
        frame = pd.DataFrame(list(rows), dtype=object)
    shown = [column for column in columns if column.key in frame]
    cells = [column.cells(frame) for column in shown]
    text = pd.DataFrame(dict(enumerate(cells)))
    text.columns = [column.title for column in shown]
    numeric = [
        not any(isinstance(value, str) for value in frame[column.key])
        for column in shown
    ]
    return text.to_markdown(
        index=False,
        disable_numparse=True,
        colalign=['right' if right else 'left' for right in numeric],
    )


def spread_text(median: float, iqr: Sequence[float], spec: str) -> str:
    """Format a median and its quartiles, as '1.50 (1.40 to 1.60)'."""
    low, high = iqr
    return f'{median:{spec}} ({low:{spec}} to {high:{spec}})'


def to_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Give rows as JSON holds them: plain numbers, None for NaN."""
    known = frame.astype(object)
    return known.where(frame.notna(), None).to_dict('records')


def from_records(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a frame of JSON rows: null becomes NaN."""
    frame = pd.DataFrame(list(records))
    return frame.where(frame.notna(), np.nan).infer_objects()
