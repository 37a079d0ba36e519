"""The analysis tools on a ResNet, as it is and with an early exit."""

from __future__ import annotations

import json

import pytest
import torch
from builders import classification, detection, hosts, segmentation
from builders.tools import colours
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

pytest.importorskip('mmpretrain', reason='needs mmpretrain')
pytest.importorskip('mmseg.models')
pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')

from mmscope.analysis import exit_only_costs, pass_macs

from .conftest import load_tool

SIZE = (64, 64)


def plain_classifier():
    model = hosts.classifier()
    model['backbone'] = hosts.resnet(3, 'cls_token')
    model['neck'] = {'type': 'GlobalAveragePooling'}
    return model


def of_task(task, wrapped):
    """Model, the builders of its host, and its scope."""
    if task == 'classifier':
        made = hosts.classifier() if wrapped else plain_classifier()
        return made, classification, 'mmpretrain'
    backbone = hosts.exit_only if wrapped else hosts.resnet
    if task == 'segmentor':
        made = segmentation.segmentor('EncoderDecoder')
        return hosts.on_resnet(made, backbone), segmentation, 'mmseg'
    made = hosts.mask_rcnn()
    return hosts.on_resnet(made, backbone), detection, 'mmdet'


@pytest.fixture(scope='session')
def data(tmp_path_factory, scenes):
    root = tmp_path_factory.mktemp('data')
    return {
        'classifier': classification.write_photos(root / 'photos', 2),
        'segmentor': segmentation.write_scenes(root / 'scenes', 4),
        'detector': detection.write_coco(root / 'coco'),
    }


@pytest.fixture
def saved(data, tmp_path):
    """Write a config and a checkpoint of it, with an exit head if any."""

    def write(task, wrapped):
        model, maker, scope = of_task(task, wrapped)
        loader = maker.dataloader(data[task], False)
        cfg = Config(
            {
                'default_scope': scope,
                'model': model,
                'test_dataloader': loader,
                'work_dir': str(tmp_path),
            }
        )
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(scope):
            built = MODELS.build(cfg.model)
        if getattr(built.backbone, 'exit_head', None) is not None:
            built.backbone.exit_head.num_updates += 1
        checkpoint = tmp_path / f'{task}.pth'
        torch.save({'state_dict': built.state_dict()}, checkpoint)
        path = tmp_path / f'{task}.py'
        cfg.dump(str(path))
        return str(path), str(checkpoint), built

    return write


def run(name, capsys, *args):
    load_tool(name).main([*map(str, args), '--json'])
    return json.loads(capsys.readouterr().out)


TASKS = ('classifier', 'segmentor', 'detector')


@pytest.mark.parametrize('task', TASKS)
def test_get_flops_counts_a_plain_backbone_and_twice_a_wrapped_one(
    task, saved, capsys
):
    shape = ('--shape', *SIZE)
    config, _, plain = saved(task, False)
    one = run('get_flops.py', capsys, config, *shape)
    own = pass_macs(plain.backbone, SIZE)
    assert one['coarse'] == one['extra'] == 0
    assert one['closed_form'] is None
    config, _, wrapped = saved(task, True)
    two = run('get_flops.py', capsys, config, *shape, '--exit-ratio', '0.5')
    costs = exit_only_costs(wrapped.backbone, SIZE, 1)
    head = 0
    if task == 'classifier':
        head = wrapped.head.fc.weight.numel()
        assert one['shared'] == two['shared'] == 0
    else:
        assert one['shared'] == two['shared'] > 0
    assert (one['fine'], two['fine']) == (own + head, own + head)
    assert two['coarse'] == costs.coarse + head
    # A quarter of the pixels, and the exit head.
    assert two['coarse'] == pytest.approx(own / 4, rel=0.15)
    assert two['mean'] == two['coarse'] + two['fine'] / 2 + two['shared']
    load_tool('get_flops.py').main([config, '--shape', '64', '64'])
    text = capsys.readouterr().out
    assert 'closed form: none for this backbone' in text
    assert 'layer4' in text


def test_get_flops_refuses_what_the_model_has_no_use_for(saved):
    tool = load_tool('get_flops.py')
    config, *_ = saved('segmentor', False)
    with pytest.raises(SystemExit, match='ResNet neither exits nor refines'):
        tool.main([config, '--exit-ratio', '0.5'])
    config, *_ = saved('segmentor', True)
    with pytest.raises(SystemExit, match='ExitOnly refines whole images'):
        tool.main([config, '--refine-ratio', '0.5'])


def test_the_image_size_comes_from_the_test_pipeline(saved, capsys):
    config, *_ = saved('detector', False)
    assert run('get_flops.py', capsys, config)['shape'] == [64, 64]
    # This one neither crops nor resizes.
    config, *_ = saved('classifier', False)
    with pytest.raises(SystemExit, match='give --shape H W'):
        load_tool('get_flops.py').main([config])


@pytest.mark.parametrize('task', TASKS)
def test_sweep_gives_one_row_or_a_curve(task, saved, capsys):
    options = ('--speed-images', '0', '--device', 'cpu')
    config, checkpoint, plain = saved(task, False)
    one = run('sweep_threshold.py', capsys, config, checkpoint, *options)
    (row,) = one['rows']
    assert row['threshold'] is None
    with pytest.raises(SystemExit, match='ResNet has no early exit'):
        load_tool('sweep_threshold.py').main(
            [config, checkpoint, '--thresholds', '0.5']
        )
    config, checkpoint, _ = saved(task, True)
    two = run('sweep_threshold.py', capsys, config, checkpoint, *options)
    ends = two['rows'][0], two['rows'][-1]
    assert [r['exit_ratio'] for r in ends] == [1.0, 0.0]
    full = ends[1]['mean_cost']
    assert ends[0]['mean_cost'] < row['mean_cost'] < full
    # Cells of the last map: those of both passes.
    added = ends[1]['mean_tokens'] - ends[0]['mean_tokens']
    assert added == row['mean_tokens']


@pytest.mark.parametrize('wrapped', [False, True])
def test_benchmark_times_it(wrapped, saved, capsys):
    config, checkpoint, _ = saved('segmentor', wrapped)
    found = run(
        'benchmark.py',
        capsys,
        *('--config', config, '--checkpoint', checkpoint),
        *('--batch-sizes', 2, '--images', 4, '--repeats', 1),
        *('--exit-ratios', 0.5, '--device', 'cpu'),
    )
    (row,) = found['rows']
    assert row['kind'] == ('ExitOnly' if wrapped else 'ResNet')
    assert row['exit_ratio'] == (0.5 if wrapped else None)
    assert row['images_per_s'] > 0
    assert row['gmacs'] > 0


def test_show_scope_draws_exits_and_says_who_has_none(saved, tmp_path):
    tool = load_tool('show_scope.py')
    config, checkpoint, _ = saved('segmentor', True)
    out = tmp_path / 'scope.png'
    tool.main([config, checkpoint, '--indices', '0', '--out', str(out)])
    assert len(colours(out)) > 100
    config, checkpoint, _ = saved('segmentor', False)
    with pytest.raises(SystemExit, match='ResNet looks at an image only once'):
        tool.main([config, checkpoint, '--indices', '0', '--out', str(out)])
