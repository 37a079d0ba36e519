"""Small real classifiers, image folders and runners for the tests."""

from __future__ import annotations

import itertools

import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

DIMS = 16
# A name an experiment: runners live as long as the process, by name.
numbers = itertools.count()
COLOURS = {'blue': (40, 60, 200), 'green': (40, 200, 60), 'red': (200, 40, 60)}


def write_photos(root, per_class=4, size=64, seed=0):
    """Write noisy images of one colour, in a folder a class."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            image = np.array(colour) + rng.normal(0, 40, (size, size, 3))
            image = Image.fromarray(image.clip(0, 255).astype(np.uint8))
            image.save(root / name / f'{i}.png')
    return root


def classifier(host='mmscope.CoarseToFineClassifier', head=None, **options):
    """Config of a small MambaScope classifier; options go to the backbone."""
    ours = {'type': 'mmscope.CoarseToFineClsHead'}
    return {
        'type': host,
        'data_preprocessor': {
            'type': 'ClsDataPreprocessor',
            'num_classes': len(COLOURS),
            'mean': [127.5] * 3,
            'std': [64.0] * 3,
            'to_rgb': True,
        },
        'backbone': {
            'type': 'mmscope.MambaScope',
            'arch': {'embed_dims': DIMS, 'num_layers': 4},
            'img_size': 64,
            **options,
        },
        'head': {
            'num_classes': len(COLOURS),
            'in_channels': DIMS,
            **(head or ours),
        },
    }


def dataloader(root, train, batch_size=4):
    """Config of a loader over images that :func:`write_photos` wrote."""
    return {
        'batch_size': batch_size,
        'num_workers': 0,
        'sampler': {'type': 'DefaultSampler', 'shuffle': train},
        'collate_fn': {'type': 'default_collate'},
        'dataset': {
            'type': 'CustomDataset',
            'data_root': str(root),
            'pipeline': [
                {'type': 'LoadImageFromFile'},
                {'type': 'PackInputs'},
            ],
        },
    }


def config(root, work_dir, model, epochs=2, seed=0, **overrides):
    """Config of a short training and evaluation on the CPU."""
    evaluator = {'type': 'Accuracy', 'topk': (1,)}
    return Config(
        {
            'model': model,
            'work_dir': str(work_dir),
            'default_scope': 'mmpretrain',
            'train_dataloader': dataloader(root, True),
            'val_dataloader': dataloader(root, False),
            'test_dataloader': dataloader(root, False),
            'val_evaluator': evaluator,
            'test_evaluator': evaluator,
            'train_cfg': {'by_epoch': True, 'max_epochs': epochs},
            'val_cfg': {},
            'test_cfg': {},
            'optim_wrapper': {'optimizer': {'type': 'AdamW', 'lr': 1e-3}},
            'default_hooks': {
                'checkpoint': {'type': 'CheckpointHook', 'interval': 1},
                'logger': {'type': 'LoggerHook', 'interval': 1},
            },
            'custom_hooks': [{'type': 'mmscope.ConfidenceGateHook'}],
            'log_level': 'WARNING',
            'randomness': {'seed': seed},
            'experiment_name': f'test_{work_dir.name}_{next(numbers)}_{seed}',
            **overrides,
        }
    )


def runner(*args, **options):
    """Build a real runner; arguments are those of :func:`config`."""
    return Runner.from_cfg(config(*args, **options))
