"""Small real models, data sets and runners for the tests."""

from __future__ import annotations

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from builders.runs import short_training

CLASSES = ('ground', 'square', 'dot')
DIMS = 16


def write_scenes(root, num=5, size=(64, 96), seed=0):
    """Write images with a square and dots in ADE20K's layout."""
    rng = np.random.default_rng(seed)
    for kind in ('images', 'annotations'):
        (root / kind).mkdir(parents=True, exist_ok=True)
    for i in range(num):
        labels = np.ones(size, np.uint8)
        top, left = rng.integers(0, size[0] - 32), rng.integers(0, 48)
        labels[top : top + 32, left : left + 32] = 2
        for _ in range(i % 3):
            y, x = rng.integers(0, size[0] - 6), rng.integers(0, size[1] - 6)
            labels[y : y + 6, x : x + 6] = 3
        colours = np.array([[0, 0, 0], [60, 90, 60], [200, 60, 60], [40] * 3])
        image = colours[labels] + rng.normal(0, 10, (*size, 3))
        image = image.clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / 'images' / f'{i}.jpg')
        Image.fromarray(labels).save(root / 'annotations' / f'{i}.png')
    return root


def segmentor(
    host='mmscope.EarlyExitEncoderDecoder', mode='whole', **backbone
):
    """Config of a small UperNet on MambaScope."""
    test_cfg = {'mode': mode}
    if mode == 'slide':
        test_cfg.update(crop_size=(64, 64), stride=(64, 32))
    return {
        'type': host,
        'data_preprocessor': {
            'type': 'SegDataPreProcessor',
            'mean': [127.5] * 3,
            'std': [64.0] * 3,
            'size': (64, 64),
            'pad_val': 0,
            'seg_pad_val': 255,
            'test_cfg': {'size_divisor': 32},
        },
        'backbone': {
            'type': 'mmscope.MambaScope',
            'arch': {'embed_dims': DIMS, 'num_layers': 4},
            'img_size': 64,
            'out_type': 'featmap',
            'out_indices': (0, 1, 2, 3),
            'exit_head': {
                'type': 'mmscope.MultiLabelExitHead',
                'num_classes': len(CLASSES),
            },
            **backbone,
        },
        'neck': {
            'type': 'Feature2Pyramid',
            'embed_dim': DIMS,
            'rescales': [4, 2, 1, 0.5],
            'norm_cfg': {'type': 'BN'},
        },
        'decode_head': {
            'type': 'UPerHead',
            'in_channels': [DIMS] * 4,
            'in_index': [0, 1, 2, 3],
            'channels': DIMS,
            'num_classes': len(CLASSES),
            'norm_cfg': {'type': 'BN'},
            'align_corners': False,
        },
        'auxiliary_head': {
            'type': 'FCNHead',
            'in_channels': DIMS,
            'in_index': 2,
            'channels': DIMS,
            'num_convs': 1,
            'num_classes': len(CLASSES),
            'norm_cfg': {'type': 'BN'},
            'align_corners': False,
        },
        'train_cfg': {},
        'test_cfg': test_cfg,
    }


def dataloader(root, train, batch_size=2):
    """Config of a loader over scenes that :func:`write_scenes` wrote."""
    load = [
        {'type': 'LoadImageFromFile'},
        {'type': 'LoadAnnotations', 'reduce_zero_label': True},
    ]
    crop = [{'type': 'RandomCrop', 'crop_size': (64, 64)}] if train else []
    return {
        'batch_size': batch_size,
        'num_workers': 0,
        'sampler': {
            'type': 'InfiniteSampler' if train else 'DefaultSampler',
            'shuffle': train,
        },
        'dataset': {
            'type': 'BaseSegDataset',
            'metainfo': {
                'classes': CLASSES,
                'palette': [[i * 80] * 3 for i in range(len(CLASSES))],
            },
            'reduce_zero_label': True,
            'data_root': str(root),
            'data_prefix': {
                'img_path': 'images',
                'seg_map_path': 'annotations',
            },
            'pipeline': [*load, *crop, {'type': 'PackSegInputs'}],
        },
    }


def config(root, work_dir, model, iters=3, seed=0, **overrides):
    """Config of a few steps and an evaluation on the CPU."""
    evaluator = {'type': 'IoUMetric', 'iou_metrics': ['mIoU']}
    content = {
        **short_training(work_dir, iters, 'SegLocalVisualizer', 1, seed),
        'model': model,
        'default_scope': 'mmseg',
        'train_dataloader': dataloader(root, True),
        'val_dataloader': dataloader(root, False),
        'test_dataloader': dataloader(root, False),
        'val_evaluator': evaluator,
        'test_evaluator': evaluator,
    }
    return Config({**content, **overrides})


def runner(*args, **options):
    """Build a real runner; arguments are those of :func:`config`."""
    pytest.importorskip('mmseg.models', reason='needs the mmseg host')
    return Runner.from_cfg(config(*args, **options))
