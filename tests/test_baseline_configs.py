"""Configs on backbones of the hosts build, count and train as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from builders import classification
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

pytest.importorskip('mmpretrain', reason='needs mmpretrain')
pytest.importorskip('mmseg.models')

from mmscope.analysis import exit_only_costs, pass_macs

CONFIGS = Path(__file__).parents[1] / 'configs'
CLASSES = len(classification.COLOURS)
SMALL = {'depth': 18, 'stem_channels': 4, 'base_channels': 4}


def load(leaf, **options):
    cfg = Config.fromfile(CONFIGS / leaf)
    cfg.merge_from_dict(options)
    return cfg


def build(cfg):
    scope = cfg.default_scope
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build({**cfg.model, '_scope_': scope})


@pytest.mark.parametrize('name', ['resnet50', 'exit_only_resnet50'])
def test_counts_in_the_headers_are_computed(name):
    leaf = f'imagenet/{name}.py'
    text = (CONFIGS / leaf).read_text()
    model = build(load(leaf))
    assert sum(p.numel() for p in model.parameters()) == 25_557_032
    assert '25,557,032 parameters' in text
    head = sum(p.numel() for p in model.head.parameters()) - 1000
    if name == 'resnet50':
        found = {'parameters, ': pass_macs(model.backbone, (224, 224))}
    else:
        costs = exit_only_costs(model.backbone, (224, 224), 16)
        found = {'coarse ': costs.coarse, 'full ': costs.fine}
    for word, macs in found.items():
        (printed,) = re.findall(rf'{word}([\d.]+)[, ]', text)
        assert float(printed) == pytest.approx((macs + head) / 1e9, abs=6e-4)


def test_the_table_s_resnet_is_mmseg_s():
    cfg = load('ade20k/resnet50_upernet.py')
    assert cfg.model.neck is None
    assert (cfg.train_cfg.max_iters, cfg.train_dataloader.batch_size) == (
        160_000,
        16,
    )
    optimizer = cfg.optim_wrapper.optimizer
    assert 'constructor' not in cfg.optim_wrapper
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == (
        'SGD',
        0.01,
        5e-4,
    )
    (poly,) = cfg.param_scheduler
    assert (poly.power, poly.eta_min, poly.end) == (0.9, 1e-4, 160_000)


def test_resnet_s_recipe_is_mmpretrain_s():
    cfg = load('imagenet/resnet50.py')
    assert (cfg.train_cfg.max_epochs, cfg.train_dataloader.batch_size) == (
        100,
        256,
    )
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (0.1, 1e-4)
    assert cfg.param_scheduler[0].milestones == [30, 60, 90]
    steps = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert steps[1:3] == ['RandomResizedCrop', 'RandomFlip']
    assert cfg.train_dataloader.sampler.type == 'DefaultSampler'


def small(name, folder, work_dir):
    """The config with a small ResNet, on our own images."""
    wrapped = name == 'exit_only_resnet50'
    cfg = load(f'imagenet/{name}.py')
    backbone = cfg.model.backbone
    (backbone.backbone if wrapped else backbone).update(SMALL)
    cfg.model.head.update(in_channels=32, num_classes=CLASSES, topk=(1,))
    cfg.model.data_preprocessor.num_classes = CLASSES
    cfg.train_cfg.max_epochs = 1
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=6, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(folder)
        loader.dataset.pipeline[1].scale = 64
        if split != 'train':
            loader.dataset.pipeline[2].crop_size = 64
            cfg[f'{split}_evaluator'] = {'type': 'Accuracy', 'topk': (1,)}
    cfg.visualizer.name = cfg.work_dir = str(work_dir)
    cfg.log_level = 'WARNING'
    return cfg


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('folders')
    for split in ('train', 'val'):
        classification.write_photos(root / split)
    return root


def test_a_plain_checkpoint_starts_the_one_with_an_exit(folder, tmp_path):
    plain = small('resnet50', folder, tmp_path / 'plain')
    Runner.from_cfg(plain).train()
    checkpoint = str(tmp_path / 'plain' / 'epoch_1.pth')
    weights = torch.load(checkpoint, weights_only=False)['state_dict']

    cfg = small('exit_only_resnet50', folder, tmp_path / 'exit')
    assert cfg.load_from.startswith('checkpoints/')
    cfg.load_from = checkpoint
    tester = Runner.from_cfg(cfg)
    tester.load_or_resume()
    for name, value in tester.model.backbone.backbone.state_dict().items():
        assert torch.equal(value, weights[f'backbone.{name}'])
    assert torch.equal(tester.model.head.fc.weight, weights['head.fc.weight'])
    runner = Runner.from_cfg(cfg)
    runner.train()
    runner.model.backbone.exit_threshold = 0.0
    metrics = runner.test()
    assert metrics['early_exit/exit_ratio'] == 1.0
    assert 'accuracy/top1' in metrics


def test_upernet_on_resnet_trains_a_step():
    cfg = load(
        'ade20k/resnet50_upernet.py',
        **{
            'model.backbone.init_cfg': None,
            'model.backbone.norm_cfg.type': 'BN',
            'model.decode_head.norm_cfg.type': 'BN',
            'model.auxiliary_head.norm_cfg.type': 'BN',
            'model.decode_head.in_channels': [4, 8, 16, 32],
            'model.decode_head.channels': 8,
            'model.auxiliary_head.in_channels': 16,
            'model.auxiliary_head.channels': 8,
        },
    )
    cfg.model.backbone.update(SMALL)
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    model, samples = build(cfg), []
    for _ in range(2):
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 9, (1, 64, 64)))
        sample.set_metainfo({'img_shape': (64, 64)})
        samples.append(sample)
    losses = model(torch.randn(2, 3, 64, 64), samples, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert all(p.grad is not None for p in model.parameters())
