"""The paper's tables with our numbers beside them.

Printed numbers, costs computed from the models and accuracies of swept runs
are three frames with a row each for every row of a table, put side by side.
Every cost is in GMACs of the paper's convention (there called FLOPs) unless
its column says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import pandas as pd

from mmscope.analysis.paper import TABLES
from mmscope.analysis.paper_rows import Cells, OpenModel, row_costs
from mmscope.analysis.paper_table import PaperRow, PaperTable
from mmscope.evaluation.sweep_result import SweepResult
from mmscope.evaluation.tables import Column

NOT_TRAINED = 'not trained'
PARAMS = (
    Column('params_paper', 'params (M) *paper*', 'g'),
    Column('params_M', '*ours*', '.2f'),
)
TOP1 = (
    Column('score_paper', 'top-1 *paper*', '.1f'),
    Column('score', '*ours*', '.2f'),
)
COST = (
    Column('gflops', 'GFLOPs *paper*', '.1f'),
    Column('cost', '*ours*', '.3f'),
)
ABLATION = (Column('label', 'setting'), *TOP1)
COLUMNS = {
    'table1': (
        Column('label', 'model'),
        Column('eta', 'η', 'g'),
        PARAMS[0],
        Column('params_M', '*ours*', '.3f'),
        COST[0],
        Column('coarse', 'coarse *ours*', '.3f'),
        Column('full', 'both stages *ours*', '.3f'),
        Column('exact', 'both stages, both scan directions', '.3f'),
        Column('implied', 'exit ratio *derived*', '.3f', std='spread'),
        Column('exit_ratio', 'exit ratio *ours*', '.3f'),
        Column('mean', 'mean *ours*', '.3f'),
        *TOP1,
    ),
    'figure1': (
        Column('label', 'tokens'),
        *COST,
        Column('with_reuse', 'with reuse MLP', '.3f'),
        *TOP1,
    ),
    'table2': (
        Column('label', 'backbone'),
        *PARAMS,
        Column('coarse', 'backbone, coarse *ours*', '.3f'),
        Column('full', 'backbone, both stages *ours*', '.3f'),
        Column('log_fps', 'log10 FPS *paper*', '.2f'),
        Column('score_paper', 'mIoU *paper*', '.1f'),
        Column('score', '*ours*', '.2f'),
    ),
    'table3': (
        Column('label', 'model'),
        *PARAMS,
        Column('gflops', 'GFLOPs *paper*', '.0f'),
        Column('coarse', 'backbone, coarse *ours*', '.1f'),
        Column('backbone', 'backbone, both stages *ours*', '.1f'),
        Column('shared', 'neck and heads *ours*', '.1f'),
        Column('none_exit', 'total, none exits *ours*', '.1f'),
        Column('all_exit', 'total, all exit *ours*', '.1f'),
        Column('break_even', 'break-even exit ratio *ours*', '.3f'),
        Column('score_paper', 'box AP *paper*', '.1f'),
        Column('score', '*ours*', '.2f'),
        Column('mask_score_paper', 'mask AP *paper*', '.1f'),
        Column('mask_score', '*ours*', '.2f'),
    ),
    'table5': (
        Column('alpha', 'α', 'g'),
        Column('regions', 'regions k', 'd'),
        Column('tokens', 'tokens', 'd'),
        *COST,
        Column('difference', 'difference', '+.3f'),
        *TOP1,
    ),
}


@dataclass(frozen=True)
class Section:
    """One table, ready to be printed.

    Args:
        table (PaperTable): What the paper has.
        columns (tuple[Column, ...]): What is shown, left to right.
        frame (pd.DataFrame): One row a printed one: ``label``,
            ``score_paper`` and so on; our costs; ``score`` of our run, or
            'not trained'.
    """

    table: PaperTable
    columns: tuple[Column, ...]
    frame: pd.DataFrame


def build(
    name: str, sweeps: Mapping[str, SweepResult], open_model: OpenModel
) -> Section:
    """Build one of ``mmscope.analysis.paper.TABLES``, paper and ours.

    ``sweeps`` are our runs by the stem of their config.
    """
    table = TABLES[name]
    rows = []
    for row in table.rows:
        found = printed(row)
        if row.key is not None:
            found |= row_costs(name, row, open_model)
            found |= reached(sweeps.get(row.key), row, found)
        rows.append(found)
    frame = pd.DataFrame(rows, dtype=object)
    return Section(table, COLUMNS.get(name, ABLATION), frame)


def printed(row: PaperRow) -> Cells:
    """Give what the paper prints, under names of their own."""
    renamed = ('score', 'mask_score', 'params')
    return {
        f'{name}_paper' if name in renamed else name: value
        for name, value in asdict(row).items()
        if name != 'key'
    }


def reached(sweep: SweepResult | None, row: PaperRow, costs: Cells) -> Cells:
    """Give what our run reached, and its mean cost there.

    Args:
        sweep (SweepResult | None): Of the run.
        row (PaperRow): Its η decides; without one, that of the nearest
            ``implied`` exit ratio; else nobody exits.
        costs (Cells): Ours of the row.

    Returns:
        Cells: ``score``, or that it was not trained; ``mask_score``;
        ``exit_ratio`` and ``mean`` where both stages have a cost.
    """
    missing = {'score': NOT_TRAINED, 'mask_score': NOT_TRAINED}
    if sweep is None:
        return missing
    if row.eta is not None:
        point = swept_at(sweep, row.eta)
    elif 'implied' in costs:
        ratios = sweep.rows['exit_ratio']
        point = sweep.rows.iloc[(ratios - costs['implied']).abs().argmin()]
    else:
        point = sweep.rows.iloc[-1]
    if point is None:
        return missing
    ratio = float(point['exit_ratio'])
    coarse = costs.get('coarse', costs.get('full', 0.0))
    return {
        'score': point[sweep.score],
        'mask_score': point.get('segm_mAP'),
        'exit_ratio': ratio,
        'mean': ratio * coarse + (1 - ratio) * costs.get('full', 0.0),
    }


def swept_at(sweep: SweepResult, eta: float) -> pd.Series | None:
    """Give the point of a sweep at one threshold.

    Returns:
        pd.Series | None: ``exit_ratio`` and score: the swept row, else
        computed from the images; None where the data-set score is no mean
        over images, or they were not stored.
    """
    rows, images, score = sweep.rows, sweep.images, sweep.score
    swept = rows[rows['threshold'] == eta]
    if len(swept):
        return swept.iloc[0]
    coarse, fine = f'coarse_{score}', f'fine_{score}'
    if not {coarse, fine, 'confidence'} <= set(images):
        return None
    if abs(images[fine].mean() - rows[score].iloc[-1]) > 1e-6:
        return None
    exits = images['confidence'] >= eta
    mean = images[coarse].where(exits, images[fine]).mean()
    return pd.Series({score: mean, 'exit_ratio': exits.mean()})
