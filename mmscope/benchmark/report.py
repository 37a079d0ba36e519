"""What was measured, for people; the losses first of all."""

from __future__ import annotations

from collections.abc import Sequence

from mmscope.benchmark.models import VIM
from mmscope.benchmark.predictions import LOSS_RATIO, shares_won, slower_cases
from mmscope.benchmark.subjects import PRODUCTS
from mmscope.evaluation.tables import Column, format_table

COLUMNS = (
    Column('subject', 'subject'),
    Column('speed', 'images/s'),
    Column('p50', 'p50 ms', '.1f'),
    Column('p95', 'p95 ms', '.1f'),
    Column('memory', 'memory MiB', '.0f'),
    Column('times_vim', 'x ViM', '.2f'),
    Column('predicted', 'predicted/s', '.1f'),
    Column('promised', 'promised %', '.0f'),
    Column('won', 'won %', '.0f'),
    Column('exit_share', 'of exits %', '.0f'),
    Column('exited', 'exited %', '.0f'),
    Column('load', 'load ms', '.2f'),
    Column('preprocess', 'prepare ms', '.2f'),
)
LEGEND = (
    'images/s: median of the rounds (quartiles). memory: {memory}. '
    "x ViM: speed over ViM's. predicted: from ViM's time and the MACs of both "
    "scan directions. promised / won: time saved, of ViM's. of exits: share "
    'of the promised saving that exits won against nobody exiting. load: '
    'reading one image; prepare: data preprocessor, an image.'
)
SCALED = {
    'promised': 'saving_promised',
    'won': 'saving_won',
    'exit_share': 'exit_share_won',
    'exited': 'exited',
}
PLAIN = {
    'p50': 'latency_ms_p50',
    'p95': 'latency_ms_p95',
    'memory': 'memory_mib',
    'predicted': 'predicted_images_per_s',
    'load': 'load_ms',
    'preprocess': 'preprocess_ms',
}


def grid_report(result: dict, heading: str = '{}\n') -> str:
    """Format a grid.

    Args:
        result (dict): ``rows``, ``skipped`` and ``memory`` (how it was
            measured).
        heading (str): What stands above the table of a cell, with a place
            for its title. Defaults to a line.

    Returns:
        str: A table for each cell, what was skipped, the share of the
        promised saving that was won, the ratio to the matrix products, and
        where MambaScope loses.
    """
    rows = result['rows']
    parts = [
        heading.format(title) + _table(cell)
        for title, cell in cells(rows).items()
    ]
    parts += [LEGEND.format(memory=result['memory'])]
    parts += filter(
        None,
        [skipped_note(result['skipped']), _floor(rows), _shares(rows)],
    )
    return '\n\n'.join([*parts, _slower_cases(rows)])


def cells(rows: Sequence[dict]) -> dict[str, list[dict]]:
    """Sort the rows of a grid into its cells, by title."""
    found: dict[str, list[dict]] = {}
    for row in rows:
        title = f'{row["arch"]}, {row["resolution"]} px, batch {row["batch"]}'
        found.setdefault(title, []).append(row)
    return found


def _table(cell: Sequence[dict]) -> str:
    vim = next((r for r in cell if r['kind'] == VIM), None)
    return format_table([_shown(row, vim) for row in cell], COLUMNS)


def speed_with_quartiles(row: dict) -> str:
    """Format the speed of a row, such as '20.4 (19.8 to 20.5)'."""
    low, high = row['images_per_s_iqr']
    return f'{row["images_per_s"]:.1f} ({low:.1f} to {high:.1f})'


def _shown(row: dict, vim: dict | None) -> dict:
    shown = {
        'subject': row['subject'],
        'speed': speed_with_quartiles(row),
        **{title: row.get(key) for title, key in PLAIN.items()},
    }
    if vim is not None:
        shown['times_vim'] = row['images_per_s'] / vim['images_per_s']
    for title, key in SCALED.items():
        value = row.get(key)
        shown[title] = None if value is None else 100 * value
    return {key: value for key, value in shown.items() if value is not None}


def skipped_note(skipped: Sequence[dict]) -> str:
    """List who was not measured where, and why; '' if there is nobody."""
    lines = [
        f'- {x["subject"]}, {x["arch"]}, {x["resolution"]} px, batch '
        f'{x["batch"]}: {x["reason"]}'
        for x in skipped
    ]
    return '\n'.join(['skipped:', '', *lines]) if lines else ''


def _floor(rows: Sequence[dict]) -> str:
    """Ratio of ViM's time to that of its matrix products."""
    lines = []
    for title, cell in cells(rows).items():
        by_name = {row['subject']: row for row in cell}
        if {VIM, PRODUCTS} <= set(by_name):
            floor = by_name[PRODUCTS]['images_per_s']
            ratio = floor / by_name[VIM]['images_per_s']
            lines.append(f'- {title}: {ratio:.2f}')
    heading = 'time of ViM over that of its matrix products alone:'
    return '\n'.join([heading, '', *lines]) if lines else ''


def _shares(rows: Sequence[dict]) -> str:
    shares = shares_won(rows)
    if not shares:
        return ''
    found = ', '.join(f'{b}: {100 * s:.0f} %' for b, s in shares.items())
    return f'share of the promised exit saving that was won, by batch: {found}'


def _slower_cases(rows: Sequence[dict]) -> str:
    if not any(row['exit_ratio'] == LOSS_RATIO for row in rows):
        return 'where MambaScope loses: unknown, nothing ran at half exits'
    found = slower_cases(rows)
    if not found:
        return (
            'where MambaScope with half of the images exiting is slower than '
            'DeiT or ViM: nowhere in the cells above'
        )
    lines = [
        f'- {x["arch"]}, {x["resolution"]} px, batch {x["batch"]}: '
        f'{x["subject"]} takes {x["times"]:.2f} x the time of {x["rival"]}'
        + ('' if x['clear'] else ' (within the spread)')
        for x in found
    ]
    return '\n'.join(
        [
            'WHERE WE LOSE: MambaScope with half of the images exiting is '
            'slower in',
            '',
            *lines,
        ]
    )
