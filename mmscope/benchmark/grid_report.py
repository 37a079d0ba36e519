"""A grid as tables, the losses first of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from mmscope.benchmark.grid_rows import (
    LOSS_RATIO,
    Grid,
    GridRow,
    SlowerCase,
    slower_cases,
)
from mmscope.benchmark.models import SCOPE, VIM
from mmscope.benchmark.setting import setting_line
from mmscope.benchmark.subjects import PRODUCTS
from mmscope.evaluation.tables import Column, format_table

NOTHING = 'nothing was measured: raise --budget-s'
PERCENT = (
    'exit_ratio',
    'exited',
    'saving_promised',
    'saving_won',
    'share_won',
    'exit_share_won',
)
GRID_COLUMNS = (
    Column('subject', 'subject'),
    Column('speed', 'images/s'),
    Column('latency_ms_p50', 'p50 ms', '.1f'),
    Column('latency_ms_p95', 'p95 ms', '.1f'),
    Column('memory_mib', 'memory MiB', '.0f'),
    Column('times_vim', 'x ViM', '.2f'),
    Column('predicted_images_per_s', 'predicted/s', '.1f'),
    Column('saving_promised', 'promised %', '.0f'),
    Column('saving_won', 'won %', '.0f'),
    Column('exit_share_won', 'of exits %', '.0f'),
    Column('exited', 'exited %', '.0f'),
    Column('load_ms', 'load ms', '.2f'),
    Column('preprocess_ms', 'prepare ms', '.2f'),
)
EXITS_COLUMNS = (
    Column('cell', 'cell'),
    Column('exit_ratio', 'exits %', '.0f'),
    Column('saving_promised', 'promised %', '.0f'),
    Column('saving_won', 'won %', '.0f'),
    Column('exit_share_won', 'share of the exits', '.0f'),
)
REDUCTION_COLUMNS = (
    Column('cell', 'cell'),
    Column('subject', 'subject'),
    Column('speed', 'images/s'),
    Column('times_vim', 'x ViM', '.2f'),
    Column('gmacs', 'GMACs', '.3f'),
    Column('saving_promised', 'promised %', '.1f'),
    Column('saving_won', 'won %', '.1f'),
    Column('share_won', 'share won %', '.0f'),
)
LEGEND = (
    'images/s: median of the rounds (quartiles). memory: {memory}. '
    "x ViM: speed over ViM's. predicted: from ViM's time and the MACs of both "
    "scan directions. promised / won: time saved, of ViM's. of exits: share "
    'of the promised saving that exits won against nobody exiting. load: '
    'reading one image; prepare: data preprocessor, an image.'
)


def paragraphs(*parts: str) -> str:
    """Join what is not empty by empty lines."""
    return '\n\n'.join(filter(None, parts))


def grid_frame(rows: Sequence[GridRow]) -> pd.DataFrame:
    """Lay rows out beside what they are in their cells.

    Args:
        rows (Sequence[GridRow]): Of any cells.

    Returns:
        pd.DataFrame: The fields of the rows, fractions in percent; ``cell``
        and ``speed`` as text; ``times_vim``, speed over that of ViM.
    """
    frame = pd.DataFrame(rows)
    frame['cell'] = [row.title for row in rows]
    frame['speed'] = [row.speed for row in rows]
    frame[[*PERCENT]] = 100 * frame[[*PERCENT]].astype(float)
    vim = frame[frame.kind == VIM].drop_duplicates('cell').set_index('cell')
    frame['times_vim'] = frame.images_per_s / frame.cell.map(vim.images_per_s)
    return frame


def cell_tables(
    frame: pd.DataFrame, columns: Sequence[Column]
) -> Iterator[str]:
    """Format each cell of a frame, without columns in which nothing is."""
    for cell, group in frame.groupby('cell', sort=False):
        table = format_table(group.dropna(axis=1, how='all'), columns)
        yield f'#### {cell}\n\n{table}'


def grid_section(grid: Grid) -> str:
    """Format a grid: a table for each cell, and who was skipped.

    Then the ratio to the matrix products, the share of the promised exit
    saving that was won, and where MambaScope loses.
    """
    if not grid.rows:
        return paragraphs(NOTHING, skipped_note(grid))
    frame = grid_frame(grid.rows)
    return paragraphs(
        *cell_tables(frame, GRID_COLUMNS),
        LEGEND.format(memory=grid.memory),
        skipped_note(grid),
        _floor(frame),
        _shares(frame),
        _slower_note(grid.rows),
        setting_line(grid.setting),
    )


def exits_section(grid: Grid) -> str:
    """Format what exits save of ViM's time, beside what their MACs promise."""
    frame = grid_frame(grid.rows)
    with_vim = frame.cell.isin(frame.cell[frame.kind == VIM])
    return format_table(frame[with_vim & (frame.kind == SCOPE)], EXITS_COLUMNS)


def reductions_section(grid: Grid) -> str:
    """Format what token reductions save of ViM's time and MACs."""
    table = NOTHING
    if grid.rows:
        table = format_table(grid_frame(grid.rows), REDUCTION_COLUMNS)
    return paragraphs(table, skipped_note(grid), setting_line(grid.setting))


def skipped_note(grid: Grid) -> str:
    """List who was not measured where, and why; '' if there is nobody."""
    lines = [f'- {x.subject}, {x.title}: {x.reason}' for x in grid.skipped]
    return '\n'.join(['skipped:', '', *lines]) if lines else ''


def _floor(frame: pd.DataFrame) -> str:
    """Ratio of ViM's time to that of its matrix products."""
    speeds = frame.pivot(
        index='cell', columns='subject', values='images_per_s'
    ).reindex(frame.cell.unique())
    if not {VIM, PRODUCTS} <= set(speeds):
        return ''
    ratios = (speeds[PRODUCTS] / speeds[VIM]).dropna()
    lines = [f'- {cell}: {ratio:.2f}' for cell, ratio in ratios.items()]
    heading = 'time of ViM over that of its matrix products alone:'
    return '\n'.join([heading, '', *lines])


def _shares(frame: pd.DataFrame) -> str:
    means = frame.groupby('batch').exit_share_won.mean().dropna()
    shares = ', '.join(f'{batch}: {x:.0f} %' for batch, x in means.items())
    title = 'share of the promised exit saving that was won, by batch'
    return f'{title}: {shares}' if shares else ''


def _slower_note(rows: Sequence[GridRow]) -> str:
    if not any(row.exit_ratio == LOSS_RATIO for row in rows):
        return 'where MambaScope loses: unknown, nothing ran at half exits'
    lines = list(map(_slower_line, slower_cases(rows)))
    if not lines:
        return (
            'where MambaScope with half of the images exiting is slower than '
            'DeiT or ViM: nowhere in the cells above'
        )
    title = (
        'WHERE WE LOSE: MambaScope with half of the images exiting is slower '
        'in'
    )
    return '\n'.join([title, '', *lines])


def _slower_line(case: SlowerCase) -> str:
    within = '' if case.clear else ' (within the spread)'
    return (
        f'- {case.title}: {case.subject} takes {case.times:.2f} x the time of '
        f'{case.rival}{within}'
    )
