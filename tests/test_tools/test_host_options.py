"""What users of the hosts expect of a tool: their options, their configs."""

from __future__ import annotations

import json
import runpy
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from builders import classification
from builders.tools import colours
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from .conftest import TOOLS, load_tool
from .tiny import scores

mmpretrain = pytest.importorskip('mmpretrain', reason='needs mmpretrain')

BASE = """
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.optim import OptimWrapper
from mmengine.visualization import LocalVisBackend
from mmpretrain.datasets import CustomDataset, LoadImageFromFile, PackInputs
from mmpretrain.engine import VisualizationHook
from mmpretrain.evaluation import Accuracy
from mmpretrain.visualization import UniversalVisualizer
from torch.optim import AdamW

default_scope = {scope!r}
loader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=CustomDataset,
        data_root={root!r},
        pipeline=[dict(type=LoadImageFromFile), dict(type=PackInputs)],
    ),
)
train_dataloader = val_dataloader = test_dataloader = loader
val_evaluator = test_evaluator = dict(type=Accuracy, topk=(1,))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = test_cfg = dict()
optim_wrapper = dict(
    type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-3)
)
default_hooks = dict(
    checkpoint=dict(type=CheckpointHook, interval=1),
    logger=dict(type=LoggerHook, interval=1),
    visualization=dict(type=VisualizationHook),
)
visualizer = dict(
    type=UniversalVisualizer,
    vis_backends=[dict(type=LocalVisBackend)],
    name={name!r},
)
"""
LEAF = """
from mmengine.config import read_base

with read_base():
    from .base import *

from mmpretrain.models import ClsDataPreprocessor
from torch.nn import SyncBatchNorm

from mmscope.engine import ConfidenceGateHook
from mmscope.models import (
    CoarseToFineClassifier,
    CoarseToFineClsHead,
    MambaScope,
)

model = dict(
    type=CoarseToFineClassifier,
    data_preprocessor=dict(
        type=ClsDataPreprocessor,
        num_classes=3,
        mean=[127.5] * 3,
        std=[64.0] * 3,
        to_rgb=True,
    ),
    backbone=dict(
        type=MambaScope,
        arch=dict(embed_dims=16, num_layers=4),
        img_size=64,
    ),
    head=dict(type=CoarseToFineClsHead, num_classes=3, in_channels=16),
)
custom_hooks = [dict(type=ConfidenceGateHook, exit_threshold=2.0)]
"""


def write_config(folder, photos, scope='mmpretrain'):
    folder.mkdir(exist_ok=True)
    (folder / 'base.py').write_text(
        BASE.format(root=str(photos), name=str(folder), scope=scope)
    )
    (folder / 'leaf.py').write_text(LEAF)
    return folder / 'leaf.py'


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    return classification.write_photos(tmp_path_factory.mktemp('photos'), 2)


@pytest.fixture(scope='module')
def trained(photos, tmp_path_factory):
    """A config whose types are classes, and a checkpoint of it."""
    folder = tmp_path_factory.mktemp('python_style')
    config = write_config(folder, photos)
    work = folder / 'work'
    load_tool('train.py').main([str(config), '--work-dir', str(work)])
    return config, work / 'epoch_1.pth'


def run_test(trained, work, *options):
    config, checkpoint = trained
    load_tool('test.py').main(
        [str(config), str(checkpoint), '--work-dir', str(work), *options]
    )
    return scores(work)


def test_a_threshold_reaches_a_hook_that_is_named_by_its_class(
    trained, tmp_path
):
    found = run_test(trained, tmp_path / 'own')
    assert found['early_exit/exit_ratio'] == 0
    found = run_test(trained, tmp_path / 'told', '--exit-threshold', '0')
    assert found['early_exit/exit_ratio'] == 1


def test_a_config_whose_types_are_classes_works_with_every_tool(
    trained, tmp_path, capsys
):
    config, checkpoint = map(str, trained)
    load_tool('sweep_threshold.py').main(
        [config, checkpoint, '--json', '--out-dir', str(tmp_path)]
    )
    rows = json.loads(capsys.readouterr().out)['rows']
    ratios = [row['exit_ratio'] for row in rows]
    assert (ratios[0], ratios[-1]) == (1.0, 0.0)
    load_tool('get_flops.py').main([config, '--json'])
    assert json.loads(capsys.readouterr().out)['coarse'] > 0
    picture = tmp_path / 'scope.png'
    load_tool('show_scope.py').main(
        [config, checkpoint, '--by-confidence', '2', '--out', str(picture)]
    )
    assert len(colours(picture)) > 100
    load_tool('benchmark.py').main(
        ['--config', config, '--batch-sizes', '1', '--images', '1', '--json']
    )
    assert 'images' in capsys.readouterr().out
    load_tool('config.py').main([config])
    assert 'CoarseToFineClassifier' in capsys.readouterr().out


def test_a_hook_that_is_named_by_its_class_is_told_not_doubled(trained):
    from mmscope.evaluation.loading import open_config
    from mmscope.runtime import set_exit_threshold

    cfg = open_config(str(trained[0]))
    set_exit_threshold(cfg, 0.25)
    assert [hook.exit_threshold for hook in cfg.custom_hooks] == [0.25]


def test_a_norm_that_is_named_by_its_class_is_adapted():
    from torch.nn import SyncBatchNorm

    from mmscope.runtime import adapt_to_machine

    cfg = Config(
        {
            'launcher': 'none',
            'model': {'head': {'norm_cfg': {'type': SyncBatchNorm}}},
        }
    )
    assert adapt_to_machine(cfg) == ['SyncBN -> BN in 1 places (one process)']
    assert cfg.model.head.norm_cfg.type == 'BN'


def test_the_host_is_found_where_only_the_model_tells_it(photos, tmp_path):
    config = write_config(tmp_path / 'no_scope', photos, scope=None)
    work = tmp_path / 'work'
    load_tool('train.py').main([str(config), '--work-dir', str(work)])
    assert (work / 'epoch_1.pth').is_file()


def test_pictures_of_a_classifier_show_every_image_in_its_colours(
    trained, tmp_path
):
    run_test(trained, tmp_path / 'work', '--show-dir', str(tmp_path / 'shown'))
    found = sorted((tmp_path / 'shown').rglob('*.png'))
    # Images of different classes are called the same.
    assert len(found) == 6
    red = [path for path in found if 'red' in path.parts]
    assert len(red) == 2
    with Image.open(red[0]) as image:
        assert min(image.size) >= 224  # labels can be read
        mean = np.asarray(image.convert('RGB')).mean((0, 1))
    assert mean[0] > mean[2] + 60


def runner_of(dataset, visualizer):
    loader = SimpleNamespace(dataset=dataset)
    return SimpleNamespace(test_dataloader=loader, visualizer=visualizer)


@pytest.mark.parametrize(
    ('prefix', 'names', 'shown'),
    [
        # Of one class, at any depth.
        (
            'data/val',
            ['data/val/red/a/1.png', 'data/val/red/b/a/1.png'],
            ['red/a/1.png', 'red/b/a/1.png'],
        ),
        ('./data/val/', ['data/val/red/1.png'], ['red/1.png']),
        # Of no folder that is known, or of another one.
        ('', ['/a/red/1.png', '/b/red/1.png'], ['a/red/1.png', 'b/red/1.png']),
        ('data/val', ['data/val/../x/1.png'], ['data/val/x/1.png']),
    ],
)
def test_pictures_lie_where_the_images_do(tmp_path, prefix, names, shown):
    import torch
    from mmpretrain.structures import DataSample

    from mmscope.engine import ClassPicturesHook

    written = []
    visualizer = SimpleNamespace(
        visualize_cls=lambda *_, out_file, **__: written.append(out_file)
    )
    samples = [
        DataSample(metainfo={'img_path': name}).set_pred_label(0)
        for name in names
    ]
    for sample in samples:
        sample.set_pred_score(torch.tensor([0.9, 0.1]))
    ClassPicturesHook(str(tmp_path)).after_test_iter(
        runner_of(SimpleNamespace(img_prefix=prefix), visualizer),
        0,
        {'inputs': torch.zeros(len(names), 3, 64, 64)},
        samples,
    )
    assert written == [str(tmp_path / name) for name in shown]


@pytest.mark.parametrize('views', [False, True])
def test_an_image_that_is_no_file_is_drawn_as_it_was_seen(tmp_path, views):
    import torch
    from mmpretrain.structures import DataSample
    from mmpretrain.visualization import UniversalVisualizer

    from mmscope.engine import ClassPicturesHook

    sample = DataSample(metainfo={'img_path': 'rendered_7.png'})
    sample.set_pred_label(0).set_pred_score(torch.tensor([0.1, 0.9]))
    red = torch.zeros(3, 64, 64)
    red[2] = 200  # BGR, as loaded
    runner = runner_of(SimpleNamespace(), UniversalVisualizer())
    inputs = [[red], [red]] if views else [red]
    ClassPicturesHook(str(tmp_path)).after_test_iter(
        runner, 0, {'inputs': inputs}, [sample]
    )
    with Image.open(tmp_path / 'rendered_7.png') as image:
        assert image.size == (256, 256)
        assert image.convert('RGB').getpixel((128, 200)) == (200, 0, 0)
    # The mean of views has its own best class; the sample stays as it was.
    assert sample.pred_label.tolist() == [0]


def test_augmented_views_of_a_classifier_are_flipped_and_count(
    trained, tmp_path
):
    plain = run_test(trained, tmp_path / 'plain')
    found = run_test(
        trained,
        tmp_path / 'tta',
        '--tta',
        '--show-dir',
        str(tmp_path / 'shown'),
    )
    assert 'accuracy/top1' in found
    for key in ('early_exit/mean_tokens', 'early_exit/mean_cost'):
        assert found[key] == pytest.approx(2 * plain[key])
    assert len(list((tmp_path / 'shown').rglob('*.png'))) == 6


def test_each_augmented_view_exits_by_itself(trained, tmp_path):
    found = run_test(trained, tmp_path, '--tta', '--exit-threshold', '0')
    assert found['early_exit/exit_ratio'] == 1


def host_tool(monkeypatch, name, *args):
    """Run a script that mmpretrain installs, as `python FILE ...`."""
    tools = Path(mmpretrain.__file__).parent / '.mim/tools'
    if not tools.is_dir():
        pytest.skip('mmpretrain is installed without its tools')
    monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
    runpy.run_path(str(tools / f'{name}.py'), run_name='__main__')


def test_scripts_of_the_host_read_our_configs(
    trained, photos, tmp_path, monkeypatch, capsys
):
    config, checkpoint = trained
    monkeypatch.setenv('MMSCOPE_CIFAR10', str(tmp_path))
    (tmp_path / 'train').symlink_to(photos)
    ours = TOOLS.parent / 'configs/cifar10/mambascope_mini.py'
    host_tool(monkeypatch, 'misc/print_config', ours)
    assert 'mmscope.MambaScope' in capsys.readouterr().out
    # Its other modes need an older matplotlib.
    options = ('--not-show', '-m', 'original', '--output-dir', tmp_path / 'b')
    host_tool(
        monkeypatch, 'visualization/browse_dataset', ours, '-n', 2, *options
    )
    assert len(list((tmp_path / 'b').iterdir())) == 2
    # A runner of the same second as the training would share its logger,
    # which writes to the stream of then.
    time.sleep(1)
    host_tool(
        monkeypatch, 'analysis_tools/confusion_matrix', config, checkpoint
    )
    assert 'confusion_matrix/result' in capsys.readouterr().out


def test_tensorboard_is_one_line(photos, tmp_path):
    pytest.importorskip('tensorboard', reason='needs tensorboard')
    config = write_config(tmp_path / 'board', photos)
    load_tool('train.py').main(
        [
            str(config),
            '--work-dir',
            str(tmp_path / 'work'),
            '--cfg-options',
            'visualizer.vis_backends.0.type=TensorboardVisBackend',
        ]
    )
    assert list((tmp_path / 'work').rglob('events.out.tfevents*'))


def test_a_detector_sees_each_image_and_its_mirror(tmp_path):
    pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')
    from builders import detection

    from mmscope.runtime import use_tta

    root = detection.write_coco(tmp_path / 'coco')
    model = detection.faster_rcnn()
    plain = detection.runner(root, tmp_path / 'w', model, with_mask=False)
    metrics = plain.test()
    cfg = plain.cfg.copy()
    cfg.tta_model = cfg.tta_pipeline = None
    use_tta(cfg)
    cfg.experiment_name += '_tta'
    augmented = Runner.from_cfg(cfg)
    found = augmented.test()
    key = 'early_exit/mean_tokens'
    assert found[key] == pytest.approx(2 * metrics[key])
    views = next(iter(augmented.test_dataloader))
    flips = [[s.flip for s in view] for view in views['data_samples']]
    assert flips == [[False, False], [True, True]]


@pytest.mark.parametrize('folder', ['ade20k', 'camvid'])
def test_augmented_views_are_of_the_scale_of_the_test(folder):
    for path in sorted((TOOLS.parent / 'configs' / folder).glob('*.py')):
        cfg = Config.fromfile(path)
        tested = cfg.test_dataloader.dataset.pipeline
        (scale,) = [s.scale for s in tested if s.type == 'Resize']
        resizes, *_ = cfg.tta_pipeline[-1].transforms
        assert scale in [step.scale for step in resizes], path.stem


def test_masks_of_objects_are_refused_under_augmentation():
    from mmscope.runtime import use_tta

    cfg = Config({'model': {'roi_head': {'mask_head': {'type': 'FCN'}}}})
    with pytest.raises(ValueError, match='leave --tta out'):
        use_tta(cfg)


def test_annotations_are_not_mirrored():
    from mmscope.runtime.tta import mirrored

    steps = ['LoadImageFromFile', 'Resize', 'LoadAnnotations', 'PackSegInputs']
    *ahead, augmented = mirrored([{'type': step} for step in steps])
    assert [step['type'] for step in ahead] == steps[:2]
    flips, *rest = augmented['transforms']
    assert [flip['prob'] for flip in flips] == [0.0, 1.0]
    assert [[step['type'] for step in steps] for steps in rest] == [
        ['LoadAnnotations'],
        ['PackSegInputs'],
    ]
