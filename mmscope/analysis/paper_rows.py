"""What each printed row costs, under the names of its table's columns."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from torch import nn

from mmscope.analysis.costs import first_grid, stage_costs
from mmscope.analysis.paper_costs import (
    DetectorCosts,
    backbone_of,
    break_even,
    classifier,
    detector,
    names_vim,
)
from mmscope.analysis.paper_table import PaperRow
from mmscope.analysis.pass_costs import pass_macs
from mmscope.models import is_two_stage

GIGA = 1e9
# Builds a config, by folder and stem, on the meta device; None where its host
# is missing.
OpenModel = Callable[[str, str], nn.Module | None]
Cells = dict[str, Any]
T = TypeVar('T')


def row_costs(table: str, row: PaperRow, open_model: OpenModel) -> Cells:
    """Cost our run of a printed row: GMACs and parameters by column.

    None of them for a table whose rows cost the same.
    """
    costs = COSTS.get(table)
    return {} if costs is None else costs(row, open_model)


def _given(cell: T | None) -> T:
    assert cell is not None, 'all rows of this table have it'
    return cell


def _classifier(row: PaperRow, open_model: OpenModel) -> Cells:
    """Cost an ImageNet model, with the exit ratio that is implied."""
    model = classifier(_given(row.key))
    found = {
        'params': model.params,
        'params_M': model.params / 1e6,
        'full': model.paper.full / GIGA,
        'exact': model.exact.full / GIGA,
    }
    if model.paper.coarse:
        found['coarse'] = model.paper.coarse / GIGA
        ratio, spread = model.implied_exit(_given(row.gflops))
        found |= {'implied': ratio, 'spread': spread}
    return found


def _one_stage(row: PaperRow, open_model: OpenModel) -> Cells:
    """Cost one stage alone: the coarse one, or that of ViM."""
    if row.eta != 0:
        return {'cost': classifier('vim_s').paper.fine / GIGA}
    costs = classifier(_given(row.key)).paper
    return {
        'cost': costs.coarse / GIGA,
        'with_reuse': (costs.coarse + costs.reuse) / GIGA,
    }


def _segmentor(row: PaperRow, open_model: OpenModel) -> Cells:
    """Cost the backbone of a segmentor, and count all its parameters."""
    key, found = _given(row.key), {}
    model: Any = open_model('ade20k', key)
    if names_vim(key):
        found = _stages(backbone_of(key, img_size=512), (512, 512))
    elif model is not None:
        found = _stages(model.backbone, (512, 512))
    return found if model is None else found | _params(model)


def _stages(backbone: Any, shape: tuple[int, int]) -> Cells:
    """Cost the stages of a backbone, whatever it is."""
    if not is_two_stage(backbone):
        return {'full': pass_macs(backbone, shape) / GIGA}
    costs = stage_costs(backbone, first_grid(backbone, shape))
    return {'full': costs.full / GIGA, 'coarse': costs.coarse / GIGA}


def _params(model: nn.Module) -> Cells:
    params = sum(p.numel() for p in model.parameters())
    return {'params': params, 'params_M': params / 1e6}


def _detector(row: PaperRow, open_model: OpenModel) -> Cells:
    """Cost a detector, neck and heads included."""
    key = _given(row.key)
    if not names_vim(key):
        return _other_detector(key, open_model)
    costs = _detector_costs(open_model, key)
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
        stem = key.replace('mambascope', 'vim')
        single = _given(_detector_costs(open_model, stem))
        found |= {
            'coarse': paper.coarse / GIGA,
            'all_exit': paper.exited / GIGA,
            'break_even': break_even(single.paper, paper),
        }
    return found


def _other_detector(key: str, open_model: OpenModel) -> Cells:
    """Cost the backbone of a detector of the host's, and count it all."""
    model: Any = open_model('coco', key)
    if model is None:
        return {}
    macs = pass_macs(model.backbone, (1024, 1024))
    return {'backbone': macs / GIGA, **_params(model)}


@cache
def _detector_costs(open_model: OpenModel, key: str) -> DetectorCosts | None:
    model = open_model('coco', key)
    return None if model is None else detector(model)


def _fine_stage(row: PaperRow, open_model: OpenModel) -> Cells:
    """Cost the fine stage alone at a refine ratio."""
    backbone: Any = backbone_of('mambascope_s')
    cost = classifier('mambascope_s', row.alpha).paper.fine / GIGA
    return {
        'regions': backbone.regions_to_refine(49, row.alpha),
        'tokens': backbone.token_counts(49, row.alpha)[1],
        'cost': cost,
        'difference': cost - _given(row.gflops),
    }


COSTS = {
    'table1': _classifier,
    'figure1': _one_stage,
    'table2': _segmentor,
    'table3': _detector,
    'table5': _fine_stage,
}
