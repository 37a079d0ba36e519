"""The paper's tables with our numbers beside them.

Costs and parameters are computed from the models, accuracies come from
sweeps of trained ones. Every cost is in GMACs of the paper's convention
(there called FLOPs) unless its column says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from mmscope.analysis.costs import first_grid, stage_costs
from mmscope.analysis.paper import (
    FIGURE1,
    TABLE1,
    TABLE2,
    TABLE3,
    TABLE5,
    TABLES,
    PaperRow,
    PaperTable,
)
from mmscope.analysis.paper_costs import backbone_of, classifier
from mmscope.analysis.paper_detection import (
    COLUMNS,
    detection_notes,
    detection_rows,
    detector,
)
from mmscope.analysis.paper_results import Point, Results
from mmscope.models import is_two_stage

NOT_TRAINED = 'not trained'

# (key of the rows, heading, format, key of a spread) of a column.
ColumnSpec = tuple[str, str, str, str | None]
PAPER, OURS = '*paper*', '*ours*'
# Builds a config, by folder and stem, on the meta device; None where its host
# is missing.
OpenModel = Callable[[str, str], nn.Module | None]


@dataclass(frozen=True)
class Section:
    """One table, ready to be printed.

    Args:
        table (PaperTable): What the paper has.
        columns (tuple[ColumnSpec, ...]): Columns, left to right.
        rows (tuple[dict, ...]): Rows; a missing key is an empty cell.
    """

    table: PaperTable
    columns: tuple[ColumnSpec, ...]
    rows: tuple[dict, ...]


def _score(key: str | None, point: Point | None) -> float | str | None:
    if key is None:
        return None
    return NOT_TRAINED if point is None else point.score


def table1(results: Results) -> Section:
    """ImageNet models, with the exit ratio that their printed cost implies."""
    columns = (
        ('model', 'model', '', None),
        ('eta', 'η', 'g', None),
        ('params_paper', f'params (M) {PAPER}', 'g', None),
        ('params_M', OURS, '.3f', None),
        ('gflops', f'GFLOPs {PAPER}', '.1f', None),
        ('coarse', 'coarse *ours*', '.3f', None),
        ('full', 'both stages *ours*', '.3f', None),
        ('exact', 'both stages, both scan directions', '.3f', None),
        ('implied', 'exit ratio *derived*', '.3f', 'spread'),
        ('exit_ratio', f'exit ratio {OURS}', '.3f', None),
        ('mean', f'mean {OURS}', '.3f', None),
        ('score_paper', f'top-1 {PAPER}', '.1f', None),
        ('score', OURS, '.2f', None),
    )
    rows = tuple(_table1_row(row, results) for row in TABLE1.rows)
    return Section(TABLE1, columns, rows)


def _table1_row(row: PaperRow, results: Results) -> dict:
    found = {
        'model': row.label,
        'eta': row.value,
        'params_paper': row.params,
        'gflops': row.gflops,
        'score_paper': row.score,
    }
    if row.key is None:
        return found
    model = classifier(row.key)
    found |= {
        'params': model.params,
        'params_M': model.params / 1e6,
        'full': model.paper.full / 1e9,
        'exact': model.exact.full / 1e9,
    }
    point = results.none_exits(row.key)
    if model.paper.coarse:
        ratio, spread = model.implied_exit(row.gflops)
        found |= {'implied': ratio, 'spread': spread}
        found['coarse'] = model.paper.coarse / 1e9
        point = (
            results.nearest(row.key, ratio)
            if row.value is None
            else results.at(row.key, row.value)
        )
    if point is not None:
        found['exit_ratio'] = point.exit_ratio
        goes_on = (1 - point.exit_ratio) * (
            model.paper.fine + model.paper.reuse
        )
        found['mean'] = (model.paper.coarse + goes_on) / 1e9
    return {**found, 'score': _score(row.key, point)}


def figure1(results: Results) -> Section:
    """One stage alone."""
    scope, vim = classifier('mambascope_s').paper, classifier('vim_s').paper
    first, second = FIGURE1.rows
    rows = (
        {
            'grid': first.label,
            'gflops': first.gflops,
            'cost': scope.coarse / 1e9,
            'with_reuse': (scope.coarse + scope.reuse) / 1e9,
            'score_paper': first.score,
            'score': _score(first.key, results.all_exit(first.key)),
        },
        {
            'grid': second.label,
            'gflops': second.gflops,
            'cost': vim.fine / 1e9,
            'score_paper': second.score,
            'score': _score(second.key, results.none_exits(second.key)),
        },
    )
    columns = (
        ('grid', 'tokens', '', None),
        ('gflops', f'GFLOPs {PAPER}', '.1f', None),
        ('cost', OURS, '.3f', None),
        ('with_reuse', 'with reuse MLP', '.3f', None),
        ('score_paper', f'top-1 {PAPER}', '.1f', None),
        ('score', OURS, '.2f', None),
    )
    return Section(FIGURE1, columns, rows)


def table2(results: Results, open_model: OpenModel) -> Section:
    """Segmentation models."""
    rows = []
    for row in TABLE2.rows:
        found = {
            'model': row.label,
            'params_paper': row.params,
            'log_fps': row.log_fps,
            'score_paper': row.score,
        }
        if row.key is not None:
            found |= _segmentor(row.key, open_model(TABLE2.configs, row.key))
            found['score'] = _score(row.key, results.none_exits(row.key))
        rows.append(found)
    columns = (
        ('model', 'backbone', '', None),
        ('params_paper', f'params (M) {PAPER}', 'g', None),
        ('params_M', OURS, '.2f', None),
        ('coarse', 'backbone, coarse *ours*', '.3f', None),
        ('full', 'backbone, both stages *ours*', '.3f', None),
        ('log_fps', f'log10 FPS {PAPER}', '.2f', None),
        ('score_paper', f'mIoU {PAPER}', '.1f', None),
        ('score', OURS, '.2f', None),
    )
    return Section(TABLE2, columns, tuple(rows))


def _segmentor(key: str, model: nn.Module | None) -> dict:
    params = model and sum(p.numel() for p in model.parameters())
    backbone = backbone_of(key, img_size=512)
    costs = stage_costs(backbone, first_grid(backbone, (512, 512)))
    return {
        'params': params,
        'params_M': None if params is None else params / 1e6,
        'coarse': costs.coarse / 1e9 if is_two_stage(backbone) else None,
        'full': costs.full / 1e9,
    }


def table3(results: Results, open_model: OpenModel) -> Section:
    """Detectors, neck and heads included."""
    keys = [row.key for row in TABLE3.rows if row.key is not None]
    models = {key: open_model(TABLE3.configs, key) for key in keys}
    costs = {key: detector(model) for key, model in models.items() if model}
    notes = detection_notes(costs) if costs else TABLE3.notes
    rows = detection_rows(results, costs, NOT_TRAINED)
    return Section(replace(TABLE3, notes=notes), COLUMNS, rows)


def table5(results: Results) -> Section:
    """Cost of the fine stage at each refine ratio."""
    rows, backbone = [], backbone_of('mambascope_s')
    for row in TABLE5.rows:
        fine = classifier('mambascope_s', row.value).paper.fine / 1e9
        rows.append(
            {
                'alpha': row.value,
                'regions': backbone.regions_to_refine(49, row.value),
                'tokens': backbone.token_counts(49, row.value)[1],
                'gflops': row.gflops,
                'cost': fine,
                'difference': fine - row.gflops,
                'score_paper': row.score,
                'score': _score(row.key, results.none_exits(row.key)),
            }
        )
    columns = (
        ('alpha', 'α', 'g', None),
        ('regions', 'regions k', 'd', None),
        ('tokens', 'tokens', 'd', None),
        ('gflops', f'GFLOPs {PAPER}', '.1f', None),
        ('cost', OURS, '.3f', None),
        ('difference', 'difference', '+.3f', None),
        ('score_paper', f'top-1 {PAPER}', '.1f', None),
        ('score', OURS, '.2f', None),
    )
    return Section(TABLE5, columns, tuple(rows))


def ablation(table: PaperTable, results: Results) -> Section:
    """Settings that cost the same and differ in accuracy alone."""
    rows = tuple(
        {
            'setting': row.label,
            'score_paper': row.score,
            'score': _score(row.key, results.none_exits(row.key)),
        }
        for row in table.rows
    )
    columns = (
        ('setting', 'setting', '', None),
        ('score_paper', f'top-1 {PAPER}', '.1f', None),
        ('score', OURS, '.2f', None),
    )
    return Section(table, columns, rows)


def build(name: str, results: Results, open_model: OpenModel) -> Section:
    """Build one table.

    Args:
        name (str): Key of ``mmscope.analysis.paper.TABLES``.
        results (Results): Accuracies of our runs.
        open_model (OpenModel): Builds models of hosts.

    Returns:
        Section: Paper and ours, side by side.
    """
    hosts = {'table2': table2, 'table3': table3}
    if name in hosts:
        return hosts[name](results, open_model)
    own = {'table1': table1, 'figure1': figure1, 'table5': table5}
    if name in own:
        return own[name](results)
    return ablation(TABLES[name], results)
