"""Tables of results, aligned for a terminal and valid Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MISSING = '-'


@dataclass(frozen=True)
class Column:
    """How one key of the rows is shown.

    Args:
        key (str): Key in a row.
        title (str): Heading.
        spec (str): Format specification of numbers. Defaults to ''.
        std (str | None): Key of a spread to show after ±. Defaults to None.
    """

    key: str
    title: str
    spec: str = ''
    std: str | None = None

    def cell(self, row: dict) -> str:
        """Format the row's value; '-' where there is none.

        Args:
            row (dict): A row.

        Returns:
            str: Text of the cell.
        """
        value = row.get(self.key)
        if value is None:
            return MISSING
        text = value if isinstance(value, str) else format(value, self.spec)
        spread = row.get(self.std) if self.std else None
        return text if not spread else f'{text} ± {spread:{self.spec}}'


def format_table(rows: Sequence[dict], columns: Sequence[Column]) -> str:
    """Format rows as an aligned Markdown table.

    Args:
        rows (Sequence[dict]): Rows.
        columns (Sequence[Column]): Columns; one that no row has is left out.

    Returns:
        str: The table, numbers to the right, text to the left.
    """
    shown = [c for c in columns if any(c.key in row for row in rows)]
    numeric = [_is_numeric(rows, column) for column in shown]
    cells = [[c.title for c in shown]]
    cells += [[c.cell(row) for c in shown] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = [
        '-' * (width - 1) + ':' if right else '-' * width
        for width, right in zip(widths, numeric, strict=True)
    ]
    lines = [cells[0], rule, *cells[1:]]
    return '\n'.join(_line(line, widths, numeric) for line in lines)


def _line(
    cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]
) -> str:
    padded = (
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    )
    return f'| {" | ".join(padded)} |'


def _is_numeric(rows: Sequence[dict], column: Column) -> bool:
    values = (row.get(column.key) for row in rows)
    return not any(isinstance(value, str) for value in values)
