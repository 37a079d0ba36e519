"""The tables of the page on many images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmscope.benchmark.setting import setting_line
from mmscope.evaluation.tables import Column, format_table

STREAM_COLUMNS = (
    Column('host', 'model'),
    Column('subject', 'how'),
    Column('batch', 'batch', '.0f'),
    Column('percent', 'exits %', '.0f'),
    Column('speed', 'images/s'),
    Column('times_vim', 'x ViM', '.2f'),
    Column('share', 'share won %', '.0f'),
)
LOAD_COLUMNS = (
    Column('factor', 'rate / capacity', '.2f'),
    Column('rate', 'requests/s', '.1f'),
    Column('sent', 'sent', '.0f'),
    Column('answered', 'answered', '.0f'),
    Column('refused', 'refused', '.0f'),
    Column('late', 'late', '.0f'),
    Column('failed', 'failed', '.0f'),
    Column('lost', 'lost', '.0f'),
    Column('p50_ms', 'p50, ms', '.0f'),
    Column('p99_ms', 'p99, ms', '.0f'),
)


def section(part: str) -> Callable[[dict], str]:
    """Make the writer of one part's table.

    Args:
        part (str): 'streams', 'memory', 'kills' or 'load'.

    Returns:
        Callable: From the whole file to Markdown.
    """

    def write(result: dict[str, Any]) -> str:
        if part not in result:
            return 'Not measured yet.'
        measured = result[part]
        report = WRITERS[part](measured['result'])
        return f'{report}\n\n{setting_line(measured["setting"])}'

    return write


def _streams(rows: list[dict[str, Any]]) -> str:
    shown = []
    for row in rows:
        low, high = row['images_per_s_iqr']
        speed = f'{row["images_per_s"]:.1f} ({low:.1f} to {high:.1f})'
        shown.append({**row, 'speed': speed, 'percent': 100 * row['exits']})
    return format_table(shown, STREAM_COLUMNS)


def _memory(found: dict[str, Any]) -> str:
    columns = (
        Column('images', 'images', ',.0f'),
        Column('mib', 'resident, MiB', '.1f'),
    )
    rows = zip(found['images'], found['mib'], strict=True)
    table = format_table([{'images': a, 'mib': b} for a, b in rows], columns)
    growth = found['mib'][-1] - found['mib'][0]
    return (
        f'{table}\n\nGrowth after the first {found["images"][0]:,} images: '
        f'{growth:.1f} MiB, at {found["images_per_s"]:.0f} images/s.'
    )


def _kills(found: dict[str, Any]) -> str:
    after = ', '.join(f'{rows:,}' for rows in found['rows_after'])
    return (
        f'{found["images"]:,} images, {found["kills"]} SIGKILLs (rows after '
        f'each: {after}). At the end {found["rows"]:,} rows, '
        f'{found["twice"]} of them twice, {found["lost"]} images lost.'
    )


def _load(found: dict[str, Any]) -> str:
    table = format_table(found['rates'], LOAD_COLUMNS)
    return f'Capacity: {found["capacity"]:.1f} requests/s.\n\n{table}'


WRITERS: dict[str, Callable[[Any], str]] = {
    'streams': _streams,
    'memory': _memory,
    'kills': _kills,
    'load': _load,
}
