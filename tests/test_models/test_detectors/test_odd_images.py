"""Images without objects, and with crowds alone, in training."""

import json
import math

import pytest
import torch
from builders import detection
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')
from mmscope.registry import MODELS

HOSTS = {
    'feature': {'coarse_loss': 'feature'},
    'detection': {'coarse_loss': 'detection'},
    'plain': {'host': 'CascadeRCNN'},
}


def write(folder, kind):
    """Images to take four of: 'empty', 'crowd' alone, or one of each.

    A file of crowds alone is refused, so a fifth image has other objects.
    """
    empty = {'empty': (0, 1, 2, 3), 'crowd': (), 'mixed': (1,)}[kind]
    number = 5 if kind == 'crowd' else 4
    root = detection.write_coco(folder, num=number, empty=empty)
    path = root / 'coco.json'
    content = json.loads(path.read_text())
    last = content['images'][-1]['id'] if kind == 'crowd' else None
    for row in content['annotations']:
        if kind == 'crowd' and row['image_id'] != last or row['image_id'] == 2:
            row['iscrowd'] = 1
            row['segmentation'] = {'size': [48, 64], 'counts': runs(row)}
    path.write_text(json.dumps(content))
    return root


def runs(row):
    """Uncompressed RLE of a box, column by column."""
    x, y, w, h = row['bbox']
    lengths = [x * 48 + y] + [h, 48 - h] * (w - 1) + [h]
    return [*lengths, 48 * 64 - sum(lengths)]


def loader(root, drop=False, batch_size=2):
    config = detection.dataloader(root, True, batch_size)
    config['dataset']['type'] = 'mmscope.CocoDetectionDataset'
    config['dataset']['filter_cfg'] = {'filter_empty_gt': drop}
    config['dataset']['indices'] = 4
    return config


def model_of(host='mmscope.EarlyExitCascadeRCNN', **options):
    torch.manual_seed(0)
    config = ConfigDict(detection.cascade(host, **options))
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(config).train()


def losses_of(model, root):
    with DefaultScope.overwrite_default_scope('mmdet'):
        data = next(iter(Runner.build_dataloader(loader(root), seed=0)))
    data = model.data_preprocessor(data, True)
    torch.manual_seed(0)
    return data, model.loss(**data_of(data))


def data_of(data):
    return {
        'batch_inputs': data['inputs'],
        'batch_data_samples': data['data_samples'],
    }


@pytest.mark.parametrize('kind', ['empty', 'crowd'])
@pytest.mark.parametrize('host', HOSTS)
def test_a_batch_without_any_object_trains(tmp_path, host, kind):
    model = model_of(**HOSTS[host])
    data, losses = losses_of(model, write(tmp_path, kind))
    crowds = 2 if kind == 'crowd' else 0
    for sample in data['data_samples']:
        assert len(sample.gt_instances) == 0
        assert len(sample.ignored_instances) == crowds
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    grads = {n: p.grad for n, p in model.named_parameters()}
    assert all(g is None or g.isfinite().all() for g in grads.values())
    # A plain detector trains the coarse stage through the hook.
    if host != 'plain':
        assert [n for n, grad in grads.items() if grad is None] == []


@pytest.mark.parametrize('host', ['feature', 'detection'])
def test_crowds_are_ignored_in_training(tmp_path, host):
    # The same four images: what is a crowd teaches nothing.
    with_crowds = write(tmp_path / 'with', 'crowd')
    without = write(tmp_path / 'without', 'crowd')
    path = without / 'coco.json'
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, 'annotations': []}))
    model = model_of(**HOSTS[host])
    _, losses = losses_of(model, with_crowds)
    _, wanted = losses_of(model, without)
    total, _ = model.parse_losses(losses)
    assert torch.equal(total, model.parse_losses(wanted)[0])
    content['annotations'][0]['iscrowd'] = 0
    path.write_text(json.dumps(content))
    _, other = losses_of(model, without)
    assert not torch.equal(total, model.parse_losses(other)[0])


@pytest.mark.parametrize('drop', [False, True])
@pytest.mark.parametrize('host', ['detection', 'plain'])
def test_a_run_over_odd_images_stays_finite(tmp_path, host, drop):
    root = write(tmp_path / 'data', 'mixed')
    runner = detection.runner(
        root,
        tmp_path,
        detection.cascade(**HOSTS[host]),
        train_dataloader=loader(root, drop, batch_size=1),
        train_cfg={'type': 'IterBasedTrainLoop', 'max_iters': 4},
        val_dataloader=None,
        val_cfg=None,
        val_evaluator=None,
    )
    runner.train()
    # Only the image without annotations goes; crowds are annotations.
    assert len(runner.train_dataloader.dataset) == (3 if drop else 4)
    scalars = runner.message_hub.log_scalars
    names = [name for name in scalars if 'loss' in name]
    assert 'train/loss_exit_coarse' in names
    for name in names:
        values, _ = scalars[name].data
        assert len(values) == 4
        assert all(math.isfinite(value) for value in values), name
