"""Tables of a first run on a GPU, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mmscope.benchmark.gpu.goals import goals
from mmscope.benchmark.gpu.parts import (
    GATED,
    HUGE,
    MACHINE,
    MODELS,
    OPS,
    PARITY,
    PARTS,
    TRAINING,
)
from mmscope.benchmark.gpu.record import DONE, Record
from mmscope.benchmark.ops import COPY
from mmscope.benchmark.setting import setting_line
from mmscope.evaluation.tables import Column, format_table

# Microseconds of one operator by its sizes; None where nothing is predicted.
Predict = Callable[[dict], float | None]
GOALS = (
    Column('name', 'goal'),
    Column('wanted', 'at least', '.2f'),
    Column('measured', 'measured', '.3f'),
    Column('verdict', 'verdict'),
    Column('note', 'what is missing or wrong'),
)
ENDS = (
    Column('part', 'part'),
    Column('done', 'done'),
    Column('others', 'skipped, failed, out of time'),
    Column('seconds', 'seconds', '.0f'),
)
TENSORS = (
    Column('op', 'operator'),
    Column('dtype', 'dtype'),
    Column('tensors', 'tensors'),
    Column('wrong', 'too far off'),
    Column('share', 'largest error / limit', '.2f'),
    Column('case', 'there'),
)
OPERATORS = (
    Column('op', 'operator'),
    Column('run', 'pass'),
    Column('scored', 'scores'),
    Column('shape', 'B x L x D x N'),
    Column('us', 'ours, µs', '.1f'),
    Column('predicted', 'predicted', '.1f'),
    Column('ratio', 'measured / predicted', '.2f'),
    Column('copy', 'copy of its bytes', '.1f'),
    Column('rival', 'best rival', '.1f'),
    Column('over', 'rival / ours', '.2f'),
    Column('rival_name', 'which'),
)
SPEEDS = (
    Column('subject', 'subject'),
    Column('images_per_s', 'images/s', '.0f'),
    Column('iqr', 'quartiles'),
    Column('latency_ms_p50', 'ms', '.2f'),
    Column('memory_mib', 'memory MiB', '.0f'),
    Column('exit_share_won', 'share of the saving won', '.2f'),
    Column('reason', 'why not'),
)


def summary(record: Record) -> str:
    """Describe a record in a few lines: goals, and how the parts ended.

    Args:
        record (Record): Results.

    Returns:
        str: Markdown.
    """
    return '\n\n'.join([goals_table(record), ends_table(record)])


def goals_table(record: Record) -> str:
    """Format the goals beside what was measured."""
    rows = [
        {**vars(goal), 'verdict': goal.verdict, 'note': goal.note or '-'}
        for goal in goals(record)
    ]
    return format_table(rows, GOALS)


def ends_table(record: Record) -> str:
    """Format how many steps of each part ended how."""
    rows = []
    for name, part in PARTS.items():
        outcomes = record.of(name)
        others = [x for x in outcomes if x.state != DONE]
        named = [f'{x.step} ({x.state})' for x in others[:2]]
        if len(others) > 2:
            named.append(f'{len(others) - 2} more')
        rows.append(
            {
                'part': part.title,
                'done': f'{len(outcomes) - len(others)} of {len(outcomes)}',
                'others': ', '.join(named) or '-',
                'seconds': sum(outcome.seconds for outcome in outcomes),
            }
        )
    return format_table(rows, ENDS)


def measured_section(
    record: Record, predict: Predict = lambda row: None
) -> str:
    """Format everything that was measured.

    Args:
        record (Record): Results; one of a dry run says that it is none.
        predict (Callable): From a row of the operators (``op``, ``run``,
            ``scored``, ``batch``, ``seqlen``, ``dim``, ``d_state``) to
            microseconds. Defaults to no prediction.

    Returns:
        str: Markdown.
    """
    if not record.outcomes:
        return 'Not measured: no GPU was at hand.'
    title = _where(record)
    parts = [
        title,
        '### Goals',
        goals_table(record),
        '### Kernels against the float64 reference',
        tensors_table(record),
        '### Operators',
        operators_table(record.rows(OPS), predict),
        *_cells('Models', record.rows(MODELS)),
        *_cells('A step of training', record.rows(TRAINING)),
        *_cells('What exits save', record.rows(GATED)),
        '### How the parts ended',
        ends_table(record),
        setting_line(record.setting),
    ]
    return '\n\n'.join(part for part in parts if part)


def _where(record: Record) -> str:
    setting = record.setting
    if setting.get('dry_run'):
        return 'A dry run on a CPU: the numbers below mean nothing.'
    found: dict = {}
    for row in record.rows(MACHINE):
        found.update(row)
    text = f'Measured on {setting["device"]} at commit {setting["commit"]}'
    if 'copy_tb_s' in found and 'product_tflop_s' in found:
        text += (
            f': a copy moves {found["copy_tb_s"]:.2f} TB/s, a bfloat16 matrix '
            f'product runs at {found["product_tflop_s"]:.0f} TFLOP/s'
        )
    return f'{text}.'


def tensors_table(record: Record) -> str:
    """Format the comparisons, one line an operator and dtype."""
    groups: dict[tuple, list[dict]] = {}
    for row in (*record.rows(PARITY), *record.rows(HUGE)):
        groups.setdefault((row['op'], row['dtype']), []).append(row)
    rows = []
    for (op, dtype), group in groups.items():
        worst = max(group, key=_share)
        rows.append(
            {
                'op': op,
                'dtype': dtype,
                'tensors': len(group),
                'wrong': sum(not row['ok'] for row in group),
                'share': _share(worst),
                'case': f'{worst["case"]}: {worst["tensor"]}',
            }
        )
    return format_table(rows, TENSORS) if rows else 'Not measured.'


def _share(row: dict) -> float:
    error = float(row['error'])
    # What is not a number is the worst of all.
    return error / row['limit'] if error == error else float('inf')


def operators_table(rows: Sequence[dict], predict: Predict) -> str:
    """Format the operators beside predictions and rivals.

    Args:
        rows (Sequence[dict]): Of the part.
        predict (Callable): See :func:`measured_section`.

    Returns:
        str: Markdown.
    """
    groups: dict[tuple, dict[str, dict]] = {}
    for row in rows:
        shape = tuple(row[k] for k in ('batch', 'seqlen', 'dim', 'd_state'))
        key = (row['op'], row['run'], row['scored'], shape)
        groups.setdefault(key, {})[row['rival']] = row
    shown = [
        _operator(group, predict)
        for group in groups.values()
        if group.get('triton', {}).get('us')
    ]
    return format_table(shown, OPERATORS) if shown else 'Not measured.'


def _operator(group: dict[str, dict], predict: Predict) -> dict:
    ours = group['triton']
    predicted = predict(ours)
    sizes = (ours[k] for k in ('batch', 'seqlen', 'dim', 'd_state'))
    others = {
        name: row['us']
        for name, row in group.items()
        if name not in ('triton', COPY) and row.get('us')
    }
    best = min(others, key=others.__getitem__) if others else None
    rival = others.get(best)
    return {
        'op': ours['op'],
        'run': ours['run'],
        'scored': 'yes' if ours['scored'] else '-',
        'shape': ' x '.join(map(str, sizes)),
        'us': ours['us'],
        'predicted': predicted,
        'ratio': predicted and ours['us'] / predicted,
        'copy': group.get(COPY, {}).get('us'),
        'rival': rival,
        'over': rival and rival / ours['us'],
        'rival_name': best or '-',
    }


def _cells(title: str, rows: Iterable[dict]) -> list[str]:
    groups: dict[str, list[dict]] = {}
    for row in rows:
        cell = f'{row["arch"]}, {row["resolution"]} px, batch {row["batch"]}'
        low, high = row.get('images_per_s_iqr', (None, None))
        quartiles = f'{low:.0f} to {high:.0f}' if low is not None else '-'
        shown = {**row, 'iqr': quartiles, 'reason': row.get('reason', '-')}
        groups.setdefault(cell, []).append(shown)
    found = [f'### {title}'] if groups else []
    for cell, group in groups.items():
        found += [f'#### {cell}', format_table(group, SPEEDS)]
    return found
