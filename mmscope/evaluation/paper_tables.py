"""The paper's tables with our numbers beside them.

Printed numbers, costs computed from the models and accuracies of swept runs
are three frames with a row each for every row of a table, put side by side.
Every cost is in GMACs of the paper's convention (there called FLOPs) unless
its column says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import pandas as pd
from torch import nn

from mmscope.analysis.costs import first_grid, stage_costs
from mmscope.analysis.paper import TABLES, PaperRow, PaperTable
from mmscope.analysis.paper_costs import (
    DetectorCosts,
    backbone_of,
    break_even,
    classifier,
    detector,
)
from mmscope.evaluation.sweep_result import SweepResult
from mmscope.evaluation.tables import Column
from mmscope.models import is_two_stage

NOT_TRAINED = 'not trained'
GIGA = 1e9
# Builds a config, by folder and stem, on the meta device; None where its host
# is missing.
OpenModel = Callable[[str, str], nn.Module | None]
Cells = dict[str, Any]

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
    """Build one table.

    Args:
        name (str): Key of ``mmscope.analysis.paper.TABLES``.
        sweeps (Mapping[str, SweepResult]): Our runs by the stem of their
            config.
        open_model (OpenModel): Builds models of hosts.

    Returns:
        Section: Paper and ours, side by side.
    """
    table = TABLES[name]
    costs = COSTS.get(name, lambda row, open_model: {})
    rows = []
    for row in table.rows:
        found = printed(row)
        if row.key is not None:
            found |= costs(row, open_model)
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
        point = at_threshold(sweep, row.eta)
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


def at_threshold(sweep: SweepResult, eta: float) -> pd.Series | None:
    """Give the point of a sweep at one threshold.

    Args:
        sweep (SweepResult): Of a gated model.
        eta (float): Exit threshold.

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


def _classifier(row: PaperRow, open_model: OpenModel) -> Cells:
    """Cost an ImageNet model, with the exit ratio that is implied."""
    model = classifier(row.key)
    found = {
        'params': model.params,
        'params_M': model.params / 1e6,
        'full': model.paper.full / GIGA,
        'exact': model.exact.full / GIGA,
    }
    if model.paper.coarse:
        found['coarse'] = model.paper.coarse / GIGA
        ratio, spread = model.implied_exit(row.gflops)
        found |= {'implied': ratio, 'spread': spread}
    return found


def _one_stage(row: PaperRow, open_model: OpenModel) -> Cells:
    """Cost one stage alone: the coarse one, or that of ViM."""
    if row.eta != 0:
        return {'cost': classifier('vim_s').paper.fine / GIGA}
    costs = classifier(row.key).paper
    return {
        'cost': costs.coarse / GIGA,
        'with_reuse': (costs.coarse + costs.reuse) / GIGA,
    }


def _segmentor(row: PaperRow, open_model: OpenModel) -> Cells:
    """Cost the backbone of a segmentor, and count all its parameters."""
    backbone, found = backbone_of(row.key, img_size=512), {}
    costs = stage_costs(backbone, first_grid(backbone, (512, 512)))
    found['full'] = costs.full / GIGA
    if is_two_stage(backbone):
        found['coarse'] = costs.coarse / GIGA
    model = open_model('ade20k', row.key)
    if model is not None:
        params = sum(p.numel() for p in model.parameters())
        found |= {'params': params, 'params_M': params / 1e6}
    return found


def _detector(row: PaperRow, open_model: OpenModel) -> Cells:
    """Cost a detector, neck and heads included."""
    costs = _detector_costs(open_model, row.key)
    if costs is None:
        return {}
    paper = costs.paper
    found = {
        'params': costs.params,
        'params_M': costs.params / 1e6,
        'backbone': (paper.full - paper.shared) / GIGA,
        'shared': paper.shared / GIGA,
        'none_exit': paper.full / GIGA,
    }
    if paper.coarse:
        stem = row.key.replace('mambascope', 'vim')
        single = _detector_costs(open_model, stem)
        found |= {
            'coarse': paper.coarse / GIGA,
            'all_exit': paper.exited / GIGA,
            'break_even': break_even(single.paper, paper),
        }
    return found


@cache
def _detector_costs(open_model: OpenModel, key: str) -> DetectorCosts | None:
    model = open_model('coco', key)
    return None if model is None else detector(model)


def _fine_stage(row: PaperRow, open_model: OpenModel) -> Cells:
    """Cost the fine stage alone at a refine ratio."""
    backbone = backbone_of('mambascope_s')
    cost = classifier('mambascope_s', row.alpha).paper.fine / GIGA
    return {
        'regions': backbone.regions_to_refine(49, row.alpha),
        'tokens': backbone.token_counts(49, row.alpha)[1],
        'cost': cost,
        'difference': cost - row.gflops,
    }


COSTS = {
    'table1': _classifier,
    'figure1': _one_stage,
    'table2': _segmentor,
    'table3': _detector,
    'table5': _fine_stage,
}
