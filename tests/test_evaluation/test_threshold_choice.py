"""A chosen threshold keeps its promise, from the curve to a real run."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders.choices import exit_choice
from mmengine.config import Config
from mmengine.utils import digit_version

from mmscope.errors import UserError
from mmscope.evaluation.curves import curve
from mmscope.evaluation.threshold_choice import (
    choose_threshold,
    operating_points,
)
from mmscope.models import MambaScope
from mmscope.registry import MODELS
from mmscope.runtime import ExitChoice, check_pretrained, set_exit_threshold

from .test_curves import endpoint_images

CHOICE = exit_choice()


def random_images(number=60):
    rng = np.random.default_rng(4)
    coarse, fine = (rng.random((2, number)) < [[0.6], [0.8]]).astype(int)
    # Ties: several images share a confidence.
    return endpoint_images(rng.integers(0, 20, number) / 20, coarse, fine)


def test_operating_points_are_the_rows_of_the_curve():
    images = random_images()
    found = operating_points(images)
    assert len(found) == len(np.unique(images.confidence)) + 1
    rows = curve(images, found['threshold'], num_draws=1)
    for name, key in (('score', 'top1'), ('mean_cost', 'mean_cost')):
        assert found[name].tolist() == pytest.approx(rows[key].tolist())


@pytest.mark.parametrize('limit', [7.0, 7.3, 9.5, 10.99, 11.0])
def test_most_accurate_within_the_cost(limit):
    images = random_images()
    found = operating_points(images)
    threshold = choose_threshold(images, target_flops=limit)
    (row,) = curve(images, [threshold], num_draws=1).to_dict('records')
    assert row['mean_cost'] <= limit
    assert row['top1'] == pytest.approx(
        found['score'][found['mean_cost'] <= limit].max()
    )


@pytest.mark.parametrize('drop', [0.0, 2.0, 10.0, 100.0])
def test_cheapest_within_the_drop(drop):
    images = random_images()
    found = operating_points(images)
    threshold = choose_threshold(images, max_drop=drop)
    (row,) = curve(images, [threshold], num_draws=1).to_dict('records')
    least = found['score'][0] - drop
    assert row['top1'] >= least - 1e-9
    assert row['mean_cost'] == pytest.approx(
        found['mean_cost'][found['score'] >= least - 1e-9].min()
    )


def test_impossible_cost_says_what_is_possible():
    with pytest.raises(ValueError, match=r'possible is 7 .* to 11 \(nobody'):
        choose_threshold(random_images(), target_flops=6.9)


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        ({}, 'exactly one target'),
        ({'target_flops': 9.0, 'max_drop': 1.0}, 'exactly one target'),
        ({'target_flops': float('nan')}, 'finite number >= 0, got nan'),
        ({'max_drop': -0.5}, 'finite number >= 0, got -0.5'),
    ],
)
def test_bad_targets_are_refused(target, message):
    with pytest.raises(ValueError, match=message):
        choose_threshold(random_images(), **target)


def test_model_without_a_gate_has_nothing_to_choose():
    images = random_images()
    images.table = images.table.drop(columns='confidence')
    with pytest.raises(ValueError, match='no early exit'):
        choose_threshold(images, max_drop=1.0)


def test_file_gives_back_what_was_written(tmp_path):
    CHOICE.write(tmp_path / 'new' / 'eta.json')
    assert ExitChoice.read(tmp_path / 'new' / 'eta.json') == CHOICE


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'kind': 'sweep'}, 'no "kind"'),
        ({'exit_threshold': '0.5'}, 'got `str` - at `.*exit_threshold'),
        ({'exit_threshold': -1}, 'got -1'),
        ({'exit_threshold': None}, 'got `null` - at `.*exit_threshold'),
        ({'confidence': 'guess'}, "confidence is 'guess'"),
        ({'target': 'speed'}, "target is 'speed'"),
        ({'temperature': 0}, 'temperature must be .* got 0.0 of'),
        ({'temperature': -2.0}, 'temperature must be'),
        ({'temperature': float('nan')}, 'temperature must be'),
        ({'temperature': '2'}, 'got `str` - at `.*temperature'),
        ({'temperature': None}, 'got `null` - at `.*temperature'),
        ({'confidence': []}, 'got `array` - at `.*confidence'),
        ({'expected': {}}, 'expected lacks exit_ratio'),
        (
            {'expected': {**CHOICE.expected, 'mean_cost': None}},
            'expected.mean_cost is None, expected a finite number',
        ),
        (
            {'expected': {**CHOICE.expected, CHOICE.score: 'good'}},
            f"expected.{CHOICE.score} is 'good'",
        ),
        (
            {'expected': {**CHOICE.expected, 'exit_ratio': 7}},
            'expected.exit_ratio is 7, expected a number from 0 to 1',
        ),
        (
            {'expected': {**CHOICE.expected, 'mean_cost': -1}},
            'expected.mean_cost is -1, expected a number >= 0',
        ),
        ({'limit': float('nan')}, 'limit is nan, expected a finite number'),
        ({'limit': float('inf')}, 'limit is inf, expected a finite number'),
        ({'limit': -5}, 'limit is -5.0, expected a finite number >= 0'),
        ({'split': 'train'}, "split is 'train', expected one of .'test', 'v"),
        ({'convention': 'foo'}, "convention is 'foo', expected one of .'exa"),
        ({'num_images': -3}, 'num_images is -3, expected at least 1'),
        ({'num_images': 0}, 'num_images is 0, expected at least 1'),
        ({'extra': 1}, 'missing or unknown: extra'),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, change, message):
    path = tmp_path / 'eta.json'
    CHOICE.write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        ExitChoice.read(path)


def test_a_file_may_say_that_there_was_no_score(tmp_path):
    path = tmp_path / 'eta.json'
    CHOICE.write(path)
    content = json.loads(path.read_text())
    content['expected'][CHOICE.score] = None
    path.write_text(json.dumps(content))
    assert 'no score at' in ExitChoice.read(path).sentence()


def test_files_without_a_temperature_mean_one(tmp_path):
    path = tmp_path / 'eta.json'
    CHOICE.write(path)
    content = json.loads(path.read_text())
    del content['temperature']
    path.write_text(json.dumps(content))
    assert ExitChoice.read(path).temperature == 1.0
    del content['limit']
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match='missing or unknown: limit'):
        ExitChoice.read(path)


@pytest.mark.parametrize('text', ['[1, 2]', '{', ''])
def test_files_that_are_no_choice_are_refused(tmp_path, text):
    path = tmp_path / 'eta.json'
    path.write_text(text)
    with pytest.raises(UserError, match='not a saved exit threshold'):
        ExitChoice.read(path)


def config(exit_head=None, kind='mmscope.MambaScope'):
    backbone = {'type': kind, 'exit_head': exit_head}
    return Config({'model': {'backbone': backbone}})


@pytest.fixture
def my_scope():
    class MyScope(MambaScope):
        pass

    MODELS.register_module(module=MyScope)
    yield MyScope
    MODELS.module_dict.pop('MyScope')


@pytest.mark.parametrize('kind', ['mmscope.MyScope', MambaScope])
def test_every_two_stage_backbone_takes_a_threshold(my_scope, kind):
    cfg = config(kind=kind)
    set_exit_threshold(cfg, 0.25)
    (gate,) = cfg.custom_hooks
    assert gate.exit_threshold == 0.25


def test_one_that_is_registered_in_its_host_takes_a_threshold(my_scope):
    pytest.importorskip('mmseg.models')
    from mmseg.registry import MODELS as HOST_MODELS

    HOST_MODELS.register_module('HostScope', module=my_scope)
    cfg = config(kind='HostScope')
    cfg.default_scope = 'mmseg'
    set_exit_threshold(cfg, 0.25)
    HOST_MODELS.module_dict.pop('HostScope')
    assert len(cfg.custom_hooks) == 1


def test_a_backbone_inside_another_model_takes_a_threshold():
    cfg = Config({'model': {'detector': config().model}})
    set_exit_threshold(cfg, 0.25)
    assert len(cfg.custom_hooks) == 1


@pytest.mark.parametrize('kind', ['mmscope.VisionMamba', 'NoSuch', None])
def test_other_backbones_take_no_threshold(kind):
    with pytest.raises(UserError, match=f'this config has {kind}'):
        set_exit_threshold(config(kind=kind), 0.25)


def test_missing_weights_of_a_subclass_are_converted_to_two_stages(my_scope):
    cfg = config(kind='mmscope.MyScope')
    cfg.model.backbone.init_cfg = {
        'type': 'Pretrained',
        'checkpoint': 'nowhere.pth',
    }
    with pytest.raises(UserError, match='--target mambascope'):
        check_pretrained(cfg)


def test_choice_brings_the_confidence_it_was_made_for():
    cfg = config()
    (note,) = set_exit_threshold(cfg, replace(CHOICE, confidence='entropy'))
    (gate,) = cfg.custom_hooks
    assert (gate.exit_threshold, gate.confidence) == (0.625, 'entropy')
    assert 'chosen on 40 images of val (at most 1 points below' in note


def test_choice_brings_its_temperature_against_that_of_the_config():
    cfg = config()
    hook = {'type': 'mmscope.ConfidenceGateHook', 'temperature': 3.0}
    cfg.custom_hooks = [hook]
    set_exit_threshold(cfg, CHOICE)
    assert cfg.custom_hooks[0].temperature == 1.0
    (note,) = set_exit_threshold(cfg, replace(CHOICE, temperature=1.75))
    assert cfg.custom_hooks[0].temperature == 1.75
    assert 'on max_prob at temperature 1.75, chosen' in note


def test_the_kind_that_a_hook_names_is_the_one_that_decides():
    dense = config({'type': 'mmscope.MultiLabelExitHead'})
    hook = {'type': 'mmscope.ConfidenceGateHook', 'confidence': 'map'}
    dense.custom_hooks = [hook]
    set_exit_threshold(dense, replace(CHOICE, confidence='map'))
    with pytest.raises(UserError, match="this config has 'map'"):
        set_exit_threshold(dense, replace(CHOICE, confidence='mean_present'))


def test_choice_for_another_exit_head_is_refused():
    dense = config({'type': 'mmscope.MultiLabelExitHead'})
    message = "confidence='max_prob', this config has 'mean_present'"
    with pytest.raises(UserError, match=message):
        set_exit_threshold(dense, CHOICE)
    set_exit_threshold(dense, replace(CHOICE, confidence='mean_present'))
    with pytest.raises(UserError, match="has 'max_prob' or 'entropy'"):
        set_exit_threshold(
            config(), replace(CHOICE, confidence='mean_present')
        )


def test_two_gate_hooks_and_keys_that_none_knows_are_refused():
    hook = {'type': 'mmscope.ConfidenceGateHook', 'priority': 'LOW'}
    cfg = config()
    cfg.custom_hooks = [hook, hook]
    with pytest.raises(UserError, match='has 2 hooks .* expected one'):
        set_exit_threshold(cfg, 0.25)
    cfg.custom_hooks = [{**hook, 'treshold': 0.5}]
    message = "has 'treshold', which .* its keys are exit_threshold, feature"
    with pytest.raises(UserError, match=message):
        set_exit_threshold(cfg, 0.25)
    cfg.custom_hooks = [hook]
    set_exit_threshold(cfg, 0.25)
    assert cfg.custom_hooks == [{**hook, 'exit_threshold': 0.25}]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--target-flops', '1', '--max-drop', '1'], 'not allowed with'),
        (['--save-threshold', 'x.json'], 'need a target'),
        (['--choose-on', 'val'], 'need a target'),
        (['--calibrate', '--save-threshold', 'x.json'], 'need a target'),
        (['--target-flops', 'much'], 'a number of at least 0'),
        (['--thresholds', 'high'], 'invalid float value'),
        (['--repeats', '0'], 'at least 1'),
        (['--num-draws', '0'], 'at least 1'),
        (['--num-quantiles', '-1'], 'a whole number'),
        (['--target-flops', '-1'], 'at least 0'),
        (['--max-drop', 'nan'], 'at least 0'),
    ],
)
def test_odd_command_lines_are_refused(options, message, capsys, load_tool):
    pytest.importorskip('matplotlib', reason='the tool draws a picture')
    with pytest.raises(SystemExit):
        load_tool('sweep_threshold').main(['c.py', 'c.pth', *options])
    assert message in capsys.readouterr().err


# Random weights that say more than a guess; versions of torch draw others.
IS_NEW = digit_version(torch.__version__) >= digit_version('2.4')
SAYS_MORE = 24 if IS_NEW else 8


@pytest.mark.parametrize(
    ('seed', 'calibrated'), [(1, False), (SAYS_MORE, True)]
)
def test_saved_threshold_is_tested_for_real(
    photo_run, load_tool, tmp_path, capsys, seed, calibrated
):
    pytest.importorskip('matplotlib', reason='the tool draws a picture')
    cfg, checkpoint = photo_run(seed=seed)
    # The pictures to report on are fewer than those to choose on.
    cfg.test_dataloader.dataset.indices = [0, 3, 5, 8, 11]
    cfg.dump(tmp_path / 'run.py')
    run = [str(tmp_path / 'run.py'), checkpoint]
    saved = tmp_path / 'eta.json'
    load_tool('sweep_threshold').main(
        [
            *run,
            *('--device', 'cpu', '--speed-images', '0'),
            *('--choose-on', 'val', '--split', 'test', '--max-drop', '10'),
            *('--save-threshold', str(saved)),
            *('--json', str(tmp_path / 'sweep.json')),
            *(['--calibrate'] if calibrated else []),
        ]
    )
    printed = capsys.readouterr().out
    assert 'chosen on 12 images of val' in printed
    assert ('fitted to 12 images of val: ECE' in printed) == calibrated
    meta = json.loads((tmp_path / 'sweep.json').read_text())['meta']
    chosen, fitted = meta['chosen'], meta.get('calibration')
    assert (fitted is not None) == calibrated
    if calibrated:
        assert not fitted['same_images']
        assert fitted['temperature'] != 1
        assert fitted['nll'] < fitted['nll_before']
        temperature = ExitChoice.read(saved).temperature
        assert temperature == chosen['temperature'] == fitted['temperature']
    assert chosen['exit_threshold'] == ExitChoice.read(saved).exit_threshold
    assert not chosen['same_images']
    work = ('--work-dir', str(tmp_path / 'test'))
    load_tool('test').main([*run, '--exit-threshold', str(saved), *work])
    (log,) = (tmp_path / 'test').glob('*/2*.json')
    real = json.loads(log.read_text())
    expected = chosen['reported']
    assert not calibrated or 0 < expected['exit_ratio'] < 1
    assert real['accuracy/top1'] == pytest.approx(expected['top1'])
    for name in ('exit_ratio', 'mean_cost'):
        assert real[f'early_exit/{name}'] == pytest.approx(expected[name])
