"""The tables of docs/results/gpu_kernels.md and gpu.md."""

from __future__ import annotations

from dataclasses import asdict

from mmscope.benchmark.gpu_disassembly import KINDS, OTHER
from mmscope.benchmark.gpu_kernels import instructions
from mmscope.benchmark.gpu_predictions import CARDS, predict
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
    Column('before_milliseconds', 'before, ms', '.3f'),
    Column('before_limit', 'bound by'),
    Column('milliseconds', 'after, ms', '.3f'),
    Column('limit', 'bound by'),
    Column('times', 'times', '.2f'),
    Column('copy_milliseconds', 'copy, ms', '.3f'),
)


def kernels_section(counts: dict) -> str:
    """Format what was counted, before and after.

    Args:
        counts (dict): The file of counts.

    Returns:
        str: Markdown.
    """
    parts = []
    for title, side in (('Before', 'before'), ('After', 'now')):
        rows = [
            _kernel_row(kernel)
            for kernel in counts[side]['kernels'].values()
            if kernel['per_token']
        ]
        rows.sort(key=lambda r: (r['kernel'], -r['channels'], r['total']))
        table = format_table(rows, KERNEL_COLUMNS)
        parts.append(
            f'#### {title} (commit {counts[side]["commit"]})\n\n{table}'
        )
    return '\n\n'.join(parts)


def _kernel_row(kernel: dict) -> dict:
    scale = 32 / kernel['channels']
    kinds = {k: v * scale for k, v in kernel['per_token'].items()}
    return {**kernel, **kinds, 'total': instructions(kernel)}


def predictions_section(counts: dict) -> str:
    """Format the predicted times, a table a card.

    Args:
        counts (dict): The file of counts.

    Returns:
        str: Markdown.
    """
    parts = []
    for card in CARDS:
        rows = [
            {**asdict(p), 'times': p.before_milliseconds / p.milliseconds}
            for p in predict(card, counts)
        ]
        table = format_table(rows, PREDICTION_COLUMNS)
        parts.append(f'#### {card}\n\n{table}')
    return '\n\n'.join(parts)
