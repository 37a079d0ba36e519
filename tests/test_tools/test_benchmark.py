from __future__ import annotations

import json
from functools import partial

import pytest
from builders.tools import colours

from mmscope.benchmark.configs import (
    config_subjects,
    distinct_names,
    open_config_model,
)
from mmscope.benchmark.gpu.scale import TINY, TINY_DEIT
from mmscope.benchmark.subjects import make_subjects

from .conftest import load_tool
from .tiny import CONFIG, OPTIONS, VIM_CONFIG

# Whatever the load of the machine, nobody is skipped.
QUICK = ['--device', 'cpu', '--repeats', '1']
PATIENT = [*QUICK, '--budget-s', '600']
SMALL_GRID = [
    *PATIENT,
    *('--arch', 'tiny'),
    *('--batch-sizes', '1', '2', '--resolutions', '64'),
    *('--exit-ratios', '0', '0.5'),
]
A_CONFIG = ['--config', 'a.py']
SETTING = {
    'machine',
    'instruction_set',
    'cpu_capability',
    'cores',
    'threads',
    'load',
    'device',
    'dtype',
    'backend',
    'backends',
    'torch',
    'mmpretrain',
    'commit',
}


@pytest.fixture
def tool(monkeypatch):
    """The tool with a network of two layers under every name."""
    module = load_tool('benchmark.py')

    def small(arch, resolution, **options):
        return make_subjects(TINY, resolution, deit_arch=TINY_DEIT, **options)

    monkeypatch.setattr(module, 'make_subjects', small)
    return module


def test_the_grid_says_what_was_measured_where_and_how(tool, tmp_path, capsys):
    out, picture = tmp_path / 'new' / 'grid.json', tmp_path / 'grid.png'
    tool.main([*SMALL_GRID, '--json', str(out), '--plot', str(picture)])
    result = json.loads(out.read_text())
    assert set(result) == {
        'setting',
        'neck',
        'memory',
        'rows',
        'skipped',
        'slower_cases',
    }
    assert set(result['setting']) == SETTING
    cells = {(r['subject'], r['batch']) for r in result['rows']}
    assert {('MambaScope 50 %', 1), ('MambaScope 50 %', 2)} <= cells
    half = [r for r in result['rows'] if r['exit_ratio'] == 0.5]
    assert {
        'images_per_s',
        'images_per_s_iqr',
        'latency_ms_p50',
        'latency_ms_p95',
        'memory_mib',
        'gmacs',
        'predicted_images_per_s',
        'exit_share_won',
    } <= set(half[0])
    # Single images alternate, so a round has two forwards.
    assert [r['forwards'] for r in half] == [2, 1]
    text = capsys.readouterr().out
    assert 'tiny, 64 px, batch 2' in text
    assert 'MambaScope with half of the images exiting is slower' in text
    assert len(colours(picture)) > 100


def test_a_picture_that_fails_does_not_cost_the_numbers(
    tool, tmp_path, capsys
):
    with pytest.raises(ValueError, match='nothing'):
        tool.main([*SMALL_GRID, '--plot', str(tmp_path / 'grid.nothing')])
    assert 'tiny, 64 px, batch 2' in capsys.readouterr().out


def test_a_training_takes_overrides_of_its_configs(tool):
    args = ['--train-minutes', '1', '--data', 'a', '--json', 'b']
    args = tool.parse_args([*args, '--cfg-options', 'model.a=1'], '')
    assert args.cfg_options == {'model.a': 1}


def test_json_without_a_file_is_all_of_the_output(tool, capsys):
    tool.main([*SMALL_GRID, '--json'])
    assert json.loads(capsys.readouterr().out)['rows']


def test_growth_fits_exponents_of_time_and_memory(tool, tmp_path, capsys):
    out, picture = tmp_path / 'growth.json', tmp_path / 'growth.png'
    tool.main(
        [
            *('--growth', *PATIENT),
            *('--resolutions', '32', '64', '--batch-sizes', '1', '2'),
            *('--exit-ratios', '0.5', '--threads', '1'),
            *('--json', str(out), '--plot', str(picture)),
        ]
    )
    curves = json.loads(out.read_text())['growth']['curves']
    vim = {c['axis']: c for c in curves if c['subject'] == 'ViM'}
    assert vim['tokens']['x'] == [4, 16]
    assert vim['batch']['x'] == [1, 2]
    assert vim['threads']['x'] == [1]
    assert vim['tokens']['time_exponent'] is not None
    assert '| tokens  | ViM' in capsys.readouterr().out
    assert len(colours(picture)) > 100


def test_ratios_alone_are_written_and_compared(
    tool, tmp_path, monkeypatch, capsys
):
    from mmscope.benchmark import ratios

    monkeypatch.setattr(ratios, 'OPS_SHAPE', (1, 5, 8, 2))
    small = partial(ratios.growth_exponents, sides=(32, 64))
    monkeypatch.setattr(tool, 'growth_exponents', small)
    path = tmp_path / 'bench.json'
    args = [
        *('--ratios', str(path), *QUICK),
        *('--arch', 'tiny', '--batch-sizes', '1'),
    ]
    tool.main(args)
    found = json.loads(path.read_text())
    assert set(found) == {'setting', 'ratios'}
    assert {
        'tiny, batch 1: ViM / its matrix products',
        'tiny, batch 1: MambaScope 50 % exits / ViM',
        'tiny: exponent of the time in the tokens, ViM',
    } <= set(found['ratios'])
    capsys.readouterr()
    tool.main(args)
    assert ', before ' in capsys.readouterr().out


@pytest.fixture
def config_args(scenes, monkeypatch):
    pytest.importorskip('mmseg.models')
    monkeypatch.setenv('MMSCOPE_ADE20K', str(scenes))
    return [
        *('--config', str(CONFIG), str(VIM_CONFIG), *PATIENT),
        *('--images', '4', '--batch-sizes', '2'),
        *('--cfg-options', *OPTIONS),
    ]


def test_configs_are_timed_by_their_test_step(tool, config_args, capsys):
    tool.main([*config_args, '--exit-ratios', '0', '0.5', '--json'])
    rows = json.loads(capsys.readouterr().out)['rows']
    names = [row['subject'] for row in rows]
    assert names == [
        'mambascope_ti_upernet 0 %',
        'mambascope_ti_upernet 50 %',
        'vim_ti_upernet',
    ]
    assert [row.get('exited') for row in rows] == [0.0, 0.5, None]
    for row in rows:
        assert row['resolution'] == '64x64'
        assert row['load_ms'] > 0
        # Two batches of two images a round.
        assert row['forwards'] == 2
        assert 0 < row['preprocess_ms'] < row['latency_ms_p95']
    assert rows[1]['saving_promised'] > rows[0]['saving_promised']


@pytest.mark.parametrize(
    ('configs', 'names'),
    [
        (['ade/a.py', 'ade/b.py'], ['a', 'b']),
        # Checkpoints of one config.
        (['ade/a.py', 'b.py', 'ade/a.py'], ['ade/a', 'b', 'ade/a (2)']),
        (['ade/a.py', 'coco/a'], ['ade/a', 'coco/a']),
        (['a.py', 'a.py', 'a.py'], ['a', 'a (2)', 'a (3)']),
    ],
)
def test_models_have_different_names(configs, names):
    assert distinct_names(configs) == names


def test_checkpoints_of_one_config_are_timed_apart(tool, config_args, capsys):
    config_args[1] = config_args[2]
    tool.main([*config_args, '--json'])
    rows = json.loads(capsys.readouterr().out)['rows']
    names = [row['subject'] for row in rows]
    assert names == ['ade20k/vim_ti_upernet', 'ade20k/vim_ti_upernet (2)']
    assert rows[0]['images_per_s'] != rows[1]['images_per_s']


def test_a_ratio_that_is_given_twice_is_timed_once(tool):
    options = ['--config', 'a.py', '--exit-ratios', '0.5', '0', '0.5']
    options += ['--exit-thresholds', '0.7', '0.7']
    args = tool.parse_args(options, '')
    assert (args.exit_ratios, args.exit_thresholds) == ([0.5, 0], [0.7])


def test_who_names_thresholds_forces_no_ratios(tool):
    options = ['--config', 'a.py', '--exit-thresholds', '0.7']
    assert tool.parse_args(options, '').exit_ratios == []
    assert 0.5 in tool.parse_args(options[:2], '').exit_ratios


@pytest.mark.parametrize(
    ('name', 'scans'), [('mambascope_ti_upernet', 24), ('deit_ti_upernet', 0)]
)
def test_the_backend_is_that_of_the_scans_whatever_the_backbone(
    config_args, name, scans
):
    config = str(CONFIG.with_stem(name))
    model = open_config_model(config, None, 1, backend='reference').model
    backends = [
        module.scan_backend
        for module in model.modules()
        if hasattr(module, 'scan_backend')
    ]
    assert backends == scans * ['reference']


def test_what_times_the_preprocessing_is_taken_off_again(tool, config_args):
    options = tool.parse_args(config_args, '').cfg_options
    source = open_config_model(str(VIM_CONFIG), None, 2, cfg_options=options)
    (subject,) = config_subjects([source], [], []).subjects
    subject.make(2)()
    assert subject.details(2)['preprocess_ms'] > 0
    preprocessor = source.model.data_preprocessor
    assert not preprocessor._forward_hooks
    assert not preprocessor._forward_pre_hooks


def test_thresholds_are_left_to_a_gate_which_must_be_trained(
    tool, config_args
):
    with pytest.raises(SystemExit, match='never trained'):
        tool.main([*config_args, '--exit-ratios', '--exit-thresholds', '0.7'])


def test_token_reductions_race_beside_vim(tool, tmp_path, capsys):
    out = tmp_path / 'a.json'
    cell = ['--arch', 'small', '--batch-sizes', '2', '--resolutions', '64']
    tool.main(['--reductions', *PATIENT, *cell, '--json', str(out)])
    result = json.loads(out.read_text())
    found = {row['subject'] for row in result['rows']}
    assert found >= {'ViM', 'R-MeeTo', 'HiddenAlign', 'DyVM'}
    assert 'MambaScope 50 %' in found
    assert 'share won %' in capsys.readouterr().out


def test_growth_is_quicker_by_default(tool):
    args = tool.parse_args(['--growth'], '')
    assert (args.exit_ratios, args.budget_s) == ([0.5], 20)
    args = tool.parse_args([], '')
    assert (args.exit_ratios[0], args.budget_s) == (0, 60)


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (['--exit-thresholds', '0.7'], 'trained gate of a --config'),
        (['--config', 'a.py', 'b.py', '--checkpoint', 'a.pth'], 'one for'),
        (['--ops', '--plot', 'a.png'], '--plot is ignored by --ops'),
        (['--ops', '--growth'], 'not allowed with'),
        (['--exit-ratios', '1.5'], 'fraction in'),
        (['--repeats', '0'], 'at least 1'),
        (['--growth', '--arch', 'tiny', 'small'], 'takes one --arch'),
        ([*A_CONFIG, '--resolutions', '512'], '--resolutions is ignored by'),
        ([*A_CONFIG, '--arch', 'tiny'], 'change it with --cfg-options'),
        ([*A_CONFIG, '--neck', 'fpn'], '--neck is ignored by --config'),
        ([*A_CONFIG, '--refine-ratio', '0.5'], '--refine-ratio is'),
        ([*A_CONFIG, '--matmuls'], 'leave it out'),
        (['--cfg-options', 'a=1'], 'ignored by the grid, it is for --config'),
        (['--images', '4'], '--images is ignored by the grid'),
        (['--ratios', 'a.json', '--exit-ratios', '0'], '--exit-ratios is'),
        (['--ops', '--batch-sizes', '1'], '--batch-sizes is ignored by --ops'),
        (['--ops', '--dtype', 'bfloat16'], '--dtype is ignored by --ops'),
        (['--ratios', 'a.json', '--budget-s', '1'], '--budget-s is ignored'),
    ],
)
def test_a_wrong_command_line_is_explained(tool, capsys, wrong, message):
    with pytest.raises(SystemExit):
        tool.parse_args(wrong, '')
    assert message in capsys.readouterr().err


def test_a_backend_that_cannot_run_is_refused(tool):
    with pytest.raises(SystemExit, match='cannot run'):
        tool.main([*SMALL_GRID, '--backend', 'mamba_ssm'])
