"""The tables of docs/results/gpu_kernels.md and gpu.md."""

from __future__ import annotations

import pandas as pd

from mmscope.benchmark.counted.disassembly import KINDS, OTHER
from mmscope.benchmark.counted.predictions import CARDS, WARP, Counts, predict
from mmscope.evaluation.tables import Column, format_table

KERNEL_COLUMNS = (
    Column('kernel', 'kernel'),
    Column('channels', 'channels', 'd'),
    Column('flags', 'compiled for'),
    Column('registers', 'registers', 'd'),
    Column('stack', 'spilled bytes', 'd'),
    Column('shared', 'shared bytes', 'd'),
    Column('total', 'instructions', '.0f'),
    *(Column(kind, kind, '.1f') for kind in (*KINDS, OTHER)),
)
PREDICTION_COLUMNS = (
    Column('model', 'model'),
    Column('part', 'part'),
    Column('batch', 'batch', 'd'),
    Column('seqlen', 'tokens', 'd'),
    Column('plan', 'plan'),
    Column('milliseconds', 'predicted, ms', '.3f'),
    Column('limit', 'bound by'),
    Column('copy_milliseconds', 'copy, ms', '.3f'),
)


def kernels_section(counts: Counts) -> str:
    """Format what was counted."""
    kernels = [x for x in counts.kernels.values() if x.per_token]
    kernels.sort(key=lambda x: (x.kernel, -x.channels, x.total))
    frame = pd.DataFrame(kernels)
    frame['total'] = [x.total for x in kernels]
    kinds = pd.DataFrame([x.per_token for x in kernels])
    scaled = kinds.mul(WARP / frame.channels, axis=0)
    table = format_table(frame.join(scaled), KERNEL_COLUMNS)
    return f'Commit {counts.commit}.\n\n{table}'


def predictions_section(counts: Counts) -> str:
    """Format the predicted times, a table a card."""
    parts = []
    for card in CARDS:
        frame = pd.DataFrame(predict(card, counts))
        table = format_table(frame, PREDICTION_COLUMNS)
        parts.append(f'#### {card}\n\n{table}')
    return '\n\n'.join(parts)
