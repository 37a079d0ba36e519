"""What the tool prints on real configs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools/analysis_tools/get_flops.py'
CONFIGS = ROOT / 'configs/ade20k'
IMAGENET = ROOT / 'configs/imagenet'
COCO = ROOT / 'configs/coco'
PLAIN = ('params', 'coarse', 'fine', 'reuse', 'shared', 'extra', 'mean')

pytest.importorskip('mmcv', reason='needs the mmseg host')
pytest.importorskip('mmseg.models')


@pytest.fixture
def get_flops(capsys):
    from mmscope.cli import get_flops as tool

    def run(config, *options):
        tool.main([str(CONFIGS / config), *options])
        return capsys.readouterr().out

    run.tool = tool
    return run


def test_mambascope_on_ade20k():
    # In a process of its own: nothing but the JSON may reach stdout.
    run = subprocess.run(
        [
            sys.executable,
            str(TOOL),
            str(CONFIGS / 'mambascope_ti_upernet.py'),
            *('--exit-ratio', '0.25', '--json'),
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    counts = json.loads(run.stdout)
    assert {key: counts[key] for key in PLAIN} == {
        'params': 12685826,
        'coarse': 1889953920,
        'fine': 6435422208,
        'reuse': 75497472,
        'shared': 31474851840,
        'extra': 0,
        'mean': 1889953920 + 3 * (6435422208 + 75497472) // 4 + 31474851840,
    }
    assert counts['closed_form'] == {key: counts[key] for key in PLAIN[1:]}
    parts = {row['part'] for row in counts['breakdown']}
    assert {'exit_head', 'neck', 'decode_head', 'reuse', 'scan'} <= parts
    assert 'auxiliary_head' not in parts


def test_vim_never_exits(get_flops):
    config = 'vim_ti_upernet.py'
    counts = json.loads(get_flops(config, '--json', '--shape', '64', '64'))
    assert (counts['coarse'], counts['reuse']) == (0, 0)
    assert counts['params'] == 12311660
    assert counts['mean'] == counts['fine'] + counts['shared']
    with pytest.raises(SystemExit, match='neither exits nor refines'):
        get_flops(config, '--exit-ratio', '0.5')


def test_exact_convention_and_ratio_reach_the_count(get_flops):
    def count(*options):
        return json.loads(
            get_flops(
                'mambascope_ti_upernet.py',
                *('--shape', '64', '64', '--json', *options),
            )
        )

    plain, exact, sparse = (
        count(),
        count('--convention', 'exact'),
        count('--refine-ratio', '0.25'),
    )
    assert exact['coarse'] > plain['coarse'] == sparse['coarse']
    assert exact['shared'] == plain['shared'] == sparse['shared']
    assert sparse['fine'] < plain['fine'] < exact['fine']


def test_vim_classifier_costs_what_the_paper_prints(get_flops):
    pytest.importorskip('mmpretrain', reason='needs the mmpretrain host')
    counts = json.loads(get_flops(IMAGENET / 'vim_ti.py', '--json'))
    assert {key: counts[key] for key in PLAIN} == {
        'params': 7148008,
        'coarse': 0,
        'fine': 1448855040,
        'reuse': 0,
        'shared': 0,
        'extra': 0,
        'mean': 1448855040,
    }
    assert counts['shape'] == [224, 224]
    scan = 24 * 197 * 384 * (9 * 16 + 2)
    paper, exact = (counts['conventions'][c] for c in ('paper', 'exact'))
    assert paper['macs'] == {key: counts[key] for key in PLAIN[1:]}
    assert paper['flops']['mean'] == 2 * (counts['mean'] - scan) + scan
    # Both scans, convolutions, x_proj and dt_proj.
    second = scan + 24 * 197 * 384 * (4 + 12 + 32 + 12)
    assert exact['macs']['mean'] == counts['mean'] + second


def test_classifier_pays_its_head_in_both_stages(get_flops):
    pytest.importorskip('mmpretrain', reason='needs the mmpretrain host')
    config = IMAGENET / 'mambascope_ti.py'
    counts = json.loads(
        get_flops(config, '--json', '--shape', '64', '96', '--exit-ratio', '1')
    )
    heads = [row for row in counts['breakdown'] if row['part'] == 'head']
    assert [(row['stage'], row['macs']) for row in heads] == [
        ('coarse', 192000),
        ('fine', 192000),
    ]
    assert counts['params'] == 7453480
    assert counts['mean'] == counts['coarse']
    assert counts['closed_form'] == {key: counts[key] for key in PLAIN[1:]}


def test_plain_classifier_gets_the_gate_that_its_hook_would_give(get_flops):
    pytest.importorskip('mmpretrain', reason='needs the mmpretrain host')
    plain = ('model.type=ImageClassifier', 'model.head.type=LinearClsHead')
    options = ('--json', '--shape', '64', '64')
    ours, theirs = (
        json.loads(get_flops(IMAGENET / 'mambascope_ti.py', *options, *more))
        for more in ((), ('--cfg-options', *plain))
    )
    assert theirs == ours


def test_a_detector_is_counted_on_the_regions_of_its_config(get_flops):
    pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')
    config = COCO / 'mambascope_ti_cascade_mask_rcnn_lite.py'
    counts = json.loads(get_flops(config, '--json', '--shape', '64', '64'))
    assert counts['params'] == 37828702
    assert counts['regions'] == {'proposals': 1000, 'masks': 100}
    # 64 x 64 pixels have less neck and RPN; heads see the same regions.
    box = 4 * 9 * 192**2 * 49 + 49 * 192 * 768 + 768 * (81 + 4)
    mask = 4 * 9 * 192**2 * 14**2 + (4 * 192**2 + 4 * 192 * 80) * 14**2
    parts = counts['shared_parts']
    assert list(parts) == ['neck', 'rpn_head', 'bbox_head', 'mask_head']
    assert parts['bbox_head'] == 3000 * box
    assert parts['mask_head'] == 100 * mask
    assert sum(parts.values()) == counts['shared']
    assert counts['closed_form'] == {key: counts[key] for key in PLAIN[1:]}
    assert counts['not_run'] == []
    assert 'RoIAlign' in counts['left_out']


def test_regions_of_a_detector_are_an_option(get_flops):
    pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')
    printed = get_flops(
        COCO / 'vim_ti_cascade_mask_rcnn_lite.py',
        *('--shape', '64', '64', '--proposals', '7', '--masks', '0'),
    )
    assert 'proposals: 7; masks: 0' in printed
    assert 'mask_head 0.000' in printed
    assert 'left out, since no convention counts any of it: RoI' in printed
    for option in ('--proposals', '--masks'):
        with pytest.raises(SystemExit, match='leave .* out'):
            get_flops('vim_ti_upernet.py', '--shape', '64', '64', option, '7')


def test_table_shows_stages_parts_and_what_is_not_counted(get_flops):
    printed = get_flops('mambascope_ti_upernet.py', '--shape', '64', '64')
    assert 'params: 12.686 M (12,685,826)' in printed
    assert 'closed form: the same' in printed
    assert 'paper GFLOPs |   exact GMACs' in printed
    counted, _, uncounted = printed.partition('not counted')
    assert '| reuse   | reuse ' in counted
    assert 'aten.rsqrt' in uncounted
    assert 'aten.rsqrt' not in counted


def test_a_wrong_closed_form_is_shown(get_flops, monkeypatch):
    tool = get_flops.tool
    monkeypatch.setattr(
        tool, 'closed_form', lambda *_: tool.StageCosts(1, 2, 3)
    )
    printed = get_flops('vim_ti_upernet.py', '--shape', '64', '64')
    assert "DIFFERS: {'coarse': 1, 'fine': 2" in printed


def test_a_backbone_of_somebody_else_is_counted(get_flops, tmp_path):
    config = tmp_path / 'resnet.py'
    config.write_text(
        "default_scope = 'mmseg'\n"
        "model = dict(type='EncoderDecoder', data_preprocessor=None,\n"
        "    backbone=dict(type='ResNetV1c', depth=18, num_stages=4,\n"
        '        out_indices=(3,), dilations=(1, 1, 1, 1),\n'
        '        strides=(1, 2, 2, 2)),\n'
        "    decode_head=dict(type='FCNHead', in_channels=512,\n"
        '        channels=8, num_classes=2))\n'
    )
    with pytest.raises(SystemExit, match='give --shape H W'):
        get_flops(config)
    text = get_flops(config, '--shape', '32', '32', '--json')
    # Alone, this test is the first to import hosts, which print.
    counts = json.loads(text.splitlines()[-1])
    assert (counts['coarse'], counts['closed_form']) == (0, None)
    # 3 x 3 convolutions on one last cell, and the classes.
    assert counts['shared'] == 9 * (512 + 8 + 512 + 8) * 8 + 8 * 2


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--convention', 'both'), "invalid choice: 'both'"),
        (('--shape', '64'), 'expected 2 arguments'),
        (('--proposals', '-1'), "a whole number, got '-1'"),
        (('--masks', '1.5'), "a whole number, got '1.5'"),
    ],
)
def test_what_the_command_line_cannot_mean_is_refused(
    get_flops, options, message, capsys
):
    with pytest.raises(SystemExit):
        get_flops('vim_ti_upernet.py', *options)
    assert message in capsys.readouterr().err


def test_an_image_without_pixels_is_refused(get_flops):
    with pytest.raises(SystemExit, match='height, width'):
        get_flops('vim_ti_upernet.py', '--shape', '64', '0')


@pytest.mark.parametrize('ratio', ['1.5', '-0.1', 'nan', 'half'])
@pytest.mark.parametrize('option', ['--exit-ratio', '--refine-ratio'])
def test_what_is_no_fraction_is_refused(get_flops, option, ratio, capsys):
    with pytest.raises(SystemExit):
        get_flops('mambascope_ti_upernet.py', f'{option}={ratio}')
    assert f"in [0, 1], got '{ratio}'" in capsys.readouterr().err
