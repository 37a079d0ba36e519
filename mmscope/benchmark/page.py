"""The tables of the pages on speed, from the files of measurements."""

from __future__ import annotations

from collections.abc import Sequence

from mmscope.benchmark.growth import MANY_TOKENS, skipped_lines
from mmscope.benchmark.models import SCOPE, VIM
from mmscope.benchmark.report import (
    cells,
    grid_report,
    skipped_note,
    speed_with_quartiles,
)
from mmscope.benchmark.setting import setting_line
from mmscope.evaluation.tables import Column, format_table

GROWTH_COLUMNS = (
    Column('axis', 'over'),
    Column('subject', 'subject'),
    Column('time', 'p of time', '.2f'),
    Column('time_large', f'from {MANY_TOKENS} tokens', '.2f'),
    Column('memory', 'p of memory', '.2f'),
    Column('memory_large', f'from {MANY_TOKENS} tokens', '.2f'),
    Column('range', 'measured'),
)
EXITS_COLUMNS = (
    Column('cell', 'cell'),
    Column('exits', 'exits %', '.0f'),
    Column('promised', 'promised %', '.0f'),
    Column('won', 'won %', '.0f'),
    Column('share', 'share of the exits', '.0f'),
)
REDUCTION_COLUMNS = (
    Column('cell', 'cell'),
    Column('subject', 'subject'),
    Column('speed', 'images/s'),
    Column('times_vim', 'x ViM', '.2f'),
    Column('gmacs', 'GMACs', '.3f'),
    Column('promised', 'promised %', '.1f'),
    Column('won', 'won %', '.1f'),
    Column('share', 'share won %', '.0f'),
)


def ratios_section(bench: dict) -> str:
    """Format the file that ``make bench`` writes.

    Args:
        bench (dict): ``setting`` and ``ratios``.

    Returns:
        str: Markdown.
    """
    rows = [
        {'ratio': name, 'time': _quartiles(value)}
        for name, value in bench['ratios'].items()
    ]
    table = format_table(
        rows, (Column('ratio', 'ratio'), Column('time', 'time'))
    )
    return f'{table}\n\n{setting_line(bench["setting"])}'


def steps_section(steps: Sequence[dict]) -> str:
    """Format what each change was worth.

    Args:
        steps (Sequence[dict]): Of tools/analysis_tools/compare_speed.py.

    Returns:
        str: Markdown.
    """
    names = list(dict.fromkeys(n for step in steps for n in step['ratios']))
    columns = [
        Column('step', 'step'),
        Column('predicted', 'predicted', '.2f'),
        *(Column(name, name) for name in names),
        Column('commits', 'commits'),
    ]
    rows = [
        {
            'step': step['step'],
            'predicted': step['predicted'],
            'commits': f'{step["before"]} to {step["after"]}',
            **{n: _quartiles(q) for n, q in step['ratios'].items()},
        }
        for step in steps
    ]
    return format_table(rows, columns)


def grid_section(result: dict) -> str:
    """Format the grid, cell by cell, and where MambaScope loses.

    Args:
        result (dict): Of tools/benchmark.py --json.

    Returns:
        str: Markdown.
    """
    report = grid_report(result, '#### {}\n\n')
    return f'{report}\n\n{setting_line(result["setting"])}'


def exits_section(result: dict) -> str:
    """Format what exits save, beside what their MACs promise.

    Args:
        result (dict): Of tools/benchmark.py --json.

    Returns:
        str: Markdown: savings against ViM, and the share of the promised
        saving that exits won against nobody exiting.
    """
    rows = []
    for title, cell in cells(result['rows']).items():
        if not any(row['kind'] == VIM for row in cell):
            continue
        rows += [
            {
                'cell': title,
                'exits': 100 * row['exit_ratio'],
                'promised': 100 * row['saving_promised'],
                'won': 100 * row['saving_won'],
                'share': _percent(row.get('exit_share_won')),
            }
            for row in cell
            if row['kind'] == SCOPE
        ]
    return format_table(rows, EXITS_COLUMNS)


def reductions_section(result: dict) -> str:
    """Format what token reductions save, beside what their MACs promise.

    Args:
        result (dict): Of tools/benchmark.py --reductions --json.

    Returns:
        str: Markdown: time and MACs saved, of ViM's, the share of the former
        in the latter, and who was skipped.
    """
    rows = []
    for title, cell in cells(result['rows']).items():
        vim = next((row for row in cell if row['kind'] == VIM), None)
        rows += [_saved(title, row, vim) for row in cell]
    table = 'nothing was measured: raise --budget-s'
    if rows:
        table = format_table(rows, REDUCTION_COLUMNS)
    skipped = skipped_note(result['skipped'])
    setting = setting_line(result['setting'])
    return '\n\n'.join(filter(None, (table, skipped, setting)))


def _saved(title: str, row: dict, vim: dict | None) -> dict:
    times = vim and row['images_per_s'] / vim['images_per_s']
    return {
        'cell': title,
        'subject': row['subject'],
        'speed': speed_with_quartiles(row),
        'times_vim': times,
        'gmacs': row['gmacs'],
        'promised': _percent(row.get('saving_promised')),
        'won': _percent(row.get('saving_won')),
        'share': _percent(row.get('share_won')),
    }


def growth_section(result: dict) -> str:
    """Format how time and memory grow.

    Args:
        result (dict): Of tools/benchmark.py --growth --json.

    Returns:
        str: Markdown: exponents p of y = c * x ** p, and what was skipped.
    """
    growth = result['growth']
    rows = [
        {
            'axis': curve['axis'],
            'subject': curve['subject'],
            'time': curve['time_exponent'],
            'time_large': curve.get('time_exponent_large'),
            'memory': curve['memory_exponent'],
            'memory_large': curve.get('memory_exponent_large'),
            'range': f'{min(curve["x"]):g} to {max(curve["x"]):g}',
        }
        for curve in growth['curves']
    ]
    table = format_table(rows, GROWTH_COLUMNS)
    skipped = '\n'.join(skipped_lines(growth))
    setting = setting_line(result['setting'])
    return '\n\n'.join(filter(None, (table, skipped, setting)))


def _quartiles(value: float | Sequence[float]) -> str:
    if not isinstance(value, Sequence):
        return f'{value:.3f}'
    low, median, high = value
    return f'{median:.2f} ({low:.2f} to {high:.2f})'


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
