"""The real config, shrunk by the overrides that a user would type."""

from __future__ import annotations

import json
from pathlib import Path

CONFIG = Path(__file__).parents[2] / 'configs/ade20k/mambascope_ti_upernet.py'
VIM_CONFIG = CONFIG.with_name('vim_ti_upernet.py')
NO_WORKERS = [
    f'{loader}.{key}'
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader')
    for key in ('num_workers=0', 'persistent_workers=False')
]
OPTIONS = [
    'model.backbone.init_cfg=None',
    'model.backbone.arch._delete_=True',
    'model.backbone.arch.embed_dims=16',
    'model.backbone.arch.num_layers=4',
    'model.backbone.out_indices=(0,1,2,3)',
    'model.backbone.img_size=64',
    'model.data_preprocessor.size=(64,64)',
    'model.neck.embed_dim=16',
    'model.decode_head.in_channels=[16,16,16,16]',
    'model.decode_head.channels=16',
    'model.auxiliary_head.in_channels=16',
    'model.auxiliary_head.channels=16',
    'train_dataloader.batch_size=2',
    'train_dataloader.dataset.pipeline.2.scale=(256,64)',
    'train_dataloader.dataset.pipeline.3.crop_size=(64,64)',
    'val_dataloader.dataset.pipeline.1.scale=(256,64)',
    'test_dataloader.dataset.pipeline.1.scale=(256,64)',
    'optim_wrapper.optimizer.lr=0.01',
    'param_scheduler.0.end=2',
    'param_scheduler.1.begin=2',
    'param_scheduler.1.end=6',
    'train_cfg.max_iters=6',
    'train_cfg.val_interval=6',
    'default_hooks.logger.interval=1',
    'default_hooks.checkpoint.interval=2',
    *NO_WORKERS,
]
# Confidence spreads over (0, 1) at once, while mean_present needs training.
EXIT_OPTIONS = ['model.backbone.exit_head.confidence=entropy']


def train_args(work_dir, *extra, config=CONFIG, options=()):
    """Command line of a tiny training."""
    exits = EXIT_OPTIONS if config == CONFIG else []
    return [
        str(config),
        '--work-dir',
        str(work_dir),
        *extra,
        '--cfg-options',
        # Visualizers live as long as the process, by name.
        f'visualizer.name={work_dir}',
        *OPTIONS,
        *exits,
        *options,
    ]


def scoring_args(work_dir, checkpoint, *extra, config=CONFIG, options=()):
    """Command line of a tiny test."""
    config_arg, *rest = train_args(
        work_dir, *extra, config=config, options=options
    )
    return [config_arg, str(checkpoint), *rest]


def records(work_dir):
    """Every line that the runs in a work directory logged, oldest first."""
    lines = []
    for path in sorted(Path(work_dir).glob('*/vis_data/2*.json')):
        lines += [json.loads(line) for line in path.open()]
    return lines


def loss_curve(work_dir):
    """Loss by iteration."""
    return {r['step']: r['loss'] for r in records(work_dir) if 'loss' in r}


def scores(work_dir):
    """Metrics of the latest validation or test."""
    found = {}
    for path in sorted(Path(work_dir).glob('*/2*.json')):
        # Every rank of MMEngine 0.10 writes the same object to one file.
        found, _ = json.JSONDecoder().raw_decode(path.read_text())
    return found
