"""Tables of a first run on a GPU, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from mmscope.benchmark.counted import predictions
from mmscope.benchmark.gpu import parts
from mmscope.benchmark.gpu.cases import SCAN
from mmscope.benchmark.gpu.goals import goals
from mmscope.benchmark.gpu.op_grid import OpRow
from mmscope.benchmark.gpu.parity import TRITON, TensorRow
from mmscope.benchmark.gpu.record import DONE, Record
from mmscope.benchmark.grid_report import (
    cell_tables,
    grid_frame,
    paragraphs,
)
from mmscope.benchmark.grid_rows import GridRow
from mmscope.benchmark.ops import COPY
from mmscope.benchmark.setting import setting_line
from mmscope.evaluation.tables import Column, format_table

# Microseconds of one operator by its sizes; None where nothing is predicted.
Predict = Callable[[OpRow], float | None]
NOTHING = 'Not measured.'
SIZES = ['batch', 'seqlen', 'dim', 'd_state']
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
    Column('name', 'there'),
)
OPERATORS = (
    Column('op', 'operator'),
    Column('run', 'pass'),
    Column('scores', 'scores'),
    Column('shape', 'B x L x D x N'),
    Column('us', 'ours, µs', '.1f'),
    Column('predicted', 'predicted', '.1f'),
    Column('ratio', 'measured / predicted', '.2f'),
    Column('copy', 'copy of its bytes', '.1f'),
    Column('best', 'best rival', '.1f'),
    Column('over', 'rival / ours', '.2f'),
    Column('which', 'which'),
)
SPEEDS = (
    Column('subject', 'subject'),
    Column('speed', 'images/s'),
    Column('latency_ms_p50', 'ms', '.2f'),
    Column('memory_mib', 'memory MiB', '.0f'),
    Column('exit_share_won', 'share of the saving won %', '.0f'),
    Column('reason', 'why not'),
)


def summary(record: Record) -> str:
    """Describe a record in a few lines: goals, and how the parts ended."""
    return paragraphs(goals_table(record), ends_table(record))


def goals_table(record: Record) -> str:
    """Format the goals beside what was measured."""
    found = goals(record)
    frame = pd.DataFrame(found)
    frame['verdict'] = [goal.verdict for goal in found]
    return format_table(frame, GOALS)


def ends_table(record: Record) -> str:
    """Format how many steps of each part ended how."""
    rows = []
    for name, part in parts.PARTS.items():
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


def page_section(record: Record) -> str:
    """Format what was measured, beside what is predicted for that card."""
    return measured_section(
        record, predictor(record.setting.get('device', ''))
    )


def predictor(device: str) -> Predict:
    """Look up what is predicted for a GPU, by the name of the device."""
    card = next((name for name in predictions.CARDS if name in device), '')
    rows = []
    if card:
        rows = predictions.predict(card, predictions.read_counts())
    found = {(x.model, x.part, *_sizes(x)): 1e3 * x.milliseconds for x in rows}

    def predict(row: OpRow) -> float | None:
        model = 'MambaScope-S' if row.scored else 'ViM-S'
        is_scan = row.op == SCAN
        return found.get((model, row.run, *_sizes(row))) if is_scan else None

    return predict


def _sizes(row: Any) -> tuple[int, ...]:
    return tuple(getattr(row, key) for key in SIZES)


def measured_section(
    record: Record, predict: Predict = lambda row: None
) -> str:
    """Format everything that was measured, beside what was predicted."""
    if not record.outcomes:
        return 'Not measured: no GPU was at hand.'
    tensors = record.rows(parts.PARITY, TensorRow) + record.rows(
        parts.HUGE, TensorRow
    )
    return paragraphs(
        _where(record),
        '### Goals',
        goals_table(record),
        '### Kernels against the float64 reference',
        tensors_table(tensors),
        '### Operators',
        operators_table(record.rows(parts.OPS, OpRow), predict),
        *_cells('Models', record.rows(parts.MODELS, GridRow)),
        *_cells('A step of training', record.rows(parts.TRAINING, GridRow)),
        *_cells('What exits save', record.rows(parts.GATED, GridRow)),
        '### How the parts ended',
        ends_table(record),
        setting_line(record.setting),
    )


def _where(record: Record) -> str:
    setting = record.setting
    if setting.get('dry_run'):
        return 'A dry run on a CPU: the numbers below mean nothing.'
    text = f'Measured on {setting["device"]} at commit {setting["commit"]}'
    found: dict[str, Any] = {}
    for facts in record.rows(parts.MACHINE, dict):
        found.update(facts)
    if {'copy_tb_s', 'product_tflop_s'} <= set(found):
        text += (
            f': a copy moves {found["copy_tb_s"]:.2f} TB/s, a bfloat16 matrix '
            f'product runs at {found["product_tflop_s"]:.0f} TFLOP/s'
        )
    return f'{text}.'


def tensors_table(rows: Sequence[TensorRow]) -> str:
    """Format the comparisons, one line an operator and dtype."""
    if not rows:
        return NOTHING
    frame = pd.DataFrame(rows)
    frame['name'] = [row.name for row in rows]
    frame['share'] = [row.share for row in rows]
    groups = frame.groupby(['op', 'dtype'], sort=False)
    worst = frame.loc[groups.share.idxmax()].set_index(['op', 'dtype'])
    worst['tensors'] = groups.size()
    worst['wrong'] = groups.size() - groups.ok.sum()
    return format_table(worst.reset_index(), TENSORS)


def operators_table(rows: Sequence[OpRow], predict: Predict) -> str:
    """Format the operators beside predictions and rivals."""
    ours = [row for row in rows if row.rival == TRITON and row.us]
    if not ours:
        return NOTHING
    place = ['op', 'run', 'scored', *SIZES]
    frame = pd.DataFrame(ours)
    frame['predicted'] = pd.Series([*map(predict, ours)], dtype=float)
    frame['ratio'] = frame.us / frame.predicted
    frame['scores'] = ['yes' if row.scored else '-' for row in ours]
    frame['shape'] = [' x '.join(map(str, _sizes(row))) for row in ours]
    times = pd.DataFrame(rows).pivot(index=place, columns='rival', values='us')
    times = times.astype(float).reindex(pd.MultiIndex.from_frame(frame[place]))
    rivals = times.drop(columns=[TRITON, COPY], errors='ignore')
    frame['copy'] = times[COPY].array if COPY in times else None
    frame['best'] = rivals.min(axis=1).array
    frame['over'] = frame.best / frame.us
    names = rivals.columns.to_numpy()
    frame['which'] = [
        '-' if best.isna().all() else names[best.argmin()]
        for _, best in rivals.iterrows()
    ]
    return format_table(frame, OPERATORS)


def _cells(title: str, rows: Sequence[GridRow]) -> list[str]:
    if not rows:
        return []
    return [f'### {title}', *cell_tables(grid_frame(rows), SPEEDS)]
