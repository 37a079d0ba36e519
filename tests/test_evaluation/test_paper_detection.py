"""Table 3: what the paper prints beside what the real recipe costs."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')
import mmdet.models  # noqa: F401  (registers its types)

from mmscope.analysis.costs import StageCosts, mean_cost
from mmscope.analysis.paper import TABLES
from mmscope.analysis.paper_costs import break_even, detector
from mmscope.evaluation import SweepResult
from mmscope.evaluation.paper_tables import build
from mmscope.evaluation.tables import to_records
from mmscope.registry import MODELS

VIM = 'vim_ti_cascade_mask_rcnn'
SCOPE = 'mambascope_ti_cascade_mask_rcnn'
CONFIGS = Path(__file__).parents[2] / 'configs'


def open_model(folder, stem):
    config = Config.fromfile(CONFIGS / folder / f'{stem}.py').model
    with (
        DefaultScope.overwrite_default_scope('mmdet'),
        torch.device('meta'),
    ):
        return MODELS.build(config)


@pytest.fixture(scope='module')
def section():
    return build('table3', {}, open_model)


@pytest.fixture(scope='module')
def rows(section):
    return {row['label']: row for row in to_records(section.frame)}


def test_the_printed_rows_stand_there(rows):
    printed = ('params_paper', 'gflops', 'score_paper', 'mask_score_paper')
    found = {
        name: tuple(row[key] for key in printed) for name, row in rows.items()
    }
    nothing = (None,) * 4
    assert found == {
        'DeiT-Ti': (None, None, 44.4, 38.1),
        'Vim-Ti': (30, 352, 45.7, 39.2),
        'MambaScope-Ti': (30, 321, 45.8, 39.4),
        'Vim-Ti, lite (not in the paper)': nothing,
        'MambaScope-Ti, lite (not in the paper)': nothing,
    }


@pytest.mark.parametrize(
    ('lite', 'params', 'shared'),
    [
        ('', (60080654, 60588766), 595.6),
        (', lite (not in the paper)', (37320590, 37828702), 336.1),
    ],
)
def test_ours_beside_them(rows, lite, params, shared):
    vim, scope = rows[f'Vim-Ti{lite}'], rows[f'MambaScope-Ti{lite}']
    assert (vim['params'], scope['params']) == params
    assert round(vim['backbone'], 1) == 30.1
    assert (round(scope['coarse'], 1), round(scope['backbone'], 1)) == (
        7.5,
        33.6,
    )
    for row in (vim, scope):
        assert round(row['shared'], 1) == shared
        assert row['none_exit'] == pytest.approx(
            row['backbone'] + row['shared']
        )
        assert row['score'] == row['mask_score'] == 'not trained'
    saved = vim['none_exit'] - scope['all_exit']
    assert round(saved, 1) == 22.6
    assert round(scope['break_even'], 2) == 0.13
    assert vim['coarse'] is None


def test_at_the_break_even_ratio_both_cost_the_same():
    vim, scope = StageCosts(0, 30, 0, 100), StageCosts(8, 25, 1, 100)
    ratio = break_even(vim, scope)
    assert mean_cost(scope, ratio) == pytest.approx(vim.full)
    assert mean_cost(scope, ratio + 0.01) < vim.full


@pytest.fixture(scope='module')
def costs():
    """Ours of the recipe that was released, and of the narrower one."""
    keys = (VIM, SCOPE, f'{VIM}_lite')
    return [detector(open_model('coco', key)) for key in keys]


def giga(macs):
    return f'{macs / 1e9:.1f}'


def test_the_notes_say_what_the_models_cost(costs):
    vim, scope, lite = costs
    notes = ' '.join(TABLES['table3'].notes)
    behind = [
        giga(one.full - one.shared)
        for one in (scope.paper, vim.paper, scope.exact, vim.exact)
    ]
    saved = vim.paper.full - scope.paper.exited
    exact = vim.exact.full - scope.exact.exited
    ratio = break_even(vim.paper, scope.paper)
    for part in (
        f'({vim.channels} channels) and a narrower one (lite, '
        f'{lite.channels}), on an image of {vim.side} x {vim.side} pixels '
        f'with {vim.regions.proposals:,} proposals and {vim.regions.masks} '
        'masks',
        f'with {vim.params / 1e6:.1f} M parameters neck and heads alone cost '
        f'{giga(vim.paper.shared)} G, and lite, whose '
        f'{giga(lite.paper.full)} G come near the printed cost, has '
        f'{lite.params / 1e6:.1f} M',
        f'{behind[0]} G in the backbone of MambaScope and {behind[1]} G in '
        f'that of ViM ({behind[2]} and {behind[3]} G with both',
        f'more than {100 * ratio:.0f} % of the images leave',
        f'{giga(saved)} G are saved ({giga(exact)} G with both directions)',
        f'{100 * saved / vim.paper.full:.1f} % of the detector (lite: '
        f'{100 * saved / lite.paper.full:.1f} %)',
        'the printed rows are 31 G apart',
    ):
        assert part in notes
    # More than any threshold saves in either count.
    assert exact < (352 - 321) * 1e9


def test_box_and_mask_ap_come_from_one_sweep():
    row = {'threshold': 2.0, 'exit_ratio': 0.0, 'segm_mAP': 30.5}
    sweep = SweepResult.from_json(
        {
            'score': 'bbox_mAP',
            'convention': 'paper',
            'rows': [{**row, 'bbox_mAP': 1.0}, {**row, 'bbox_mAP': 40.25}],
        }
    )
    section = build('table3', {SCOPE: sweep}, lambda *_: None)
    scored = {
        row['label']: (row['score'], row['mask_score'])
        for row in to_records(section.frame)
    }
    assert scored['MambaScope-Ti'] == (40.25, 30.5)
    assert scored['Vim-Ti'] == ('not trained', 'not trained')
    assert scored['DeiT-Ti'] == ('not trained', 'not trained')


def test_without_mmdetection_the_printed_rows_are_left():
    section = build('table3', {}, lambda *_: None)
    assert 'params' not in section.frame
    assert section.frame['gflops'][1:3].tolist() == [352, 321]
