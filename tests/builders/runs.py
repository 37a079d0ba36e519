"""Configs and checkpoints of tiny models, as files."""

import itertools
from types import SimpleNamespace

numbers = itertools.count()


def short_training(work_dir, iters, visualizer, interval, seed=0):
    """Settings of a training of a few iterations on the CPU."""
    return {
        'work_dir': str(work_dir),
        'train_cfg': {
            'type': 'IterBasedTrainLoop',
            'max_iters': iters,
            'val_interval': iters,
        },
        'val_cfg': {'type': 'ValLoop'},
        'test_cfg': {'type': 'TestLoop'},
        'optim_wrapper': {'optimizer': {'type': 'AdamW', 'lr': 1e-3}},
        'default_hooks': {
            'checkpoint': {
                'type': 'CheckpointHook',
                'interval': interval,
                'by_epoch': False,
            },
            'logger': {'type': 'LoggerHook', 'interval': 1},
        },
        'custom_hooks': [{'type': 'mmscope.ConfidenceGateHook'}],
        'visualizer': {
            'type': visualizer,
            'vis_backends': [{'type': 'LocalVisBackend'}],
        },
        'log_level': 'WARNING',
        'randomness': {'seed': seed},
        # Runners live as long as the process, by name.
        'experiment_name': f'test_{work_dir.name}_{next(numbers)}_{seed}',
    }


def write_run(folder, scope, model, loader, name, **meta):
    """Write config and checkpoint; give their paths."""
    import torch
    from mmengine.config import Config

    from mmscope.evaluation.loading import build_model, open_config

    config = {
        'default_scope': scope,
        'model': model,
        'test_dataloader': loader,
        'val_dataloader': None,
        'custom_hooks': [],
        'work_dir': str(folder / 'work'),
    }
    if model['backbone']['type'].endswith('MambaScope'):
        config['custom_hooks'] = [{'type': 'mmscope.ConfidenceGateHook'}]
    path = folder / f'{name}.py'
    Config(config).dump(path)
    torch.manual_seed(0)
    built = build_model(open_config(str(path)), device='cpu')
    head = getattr(built.backbone, 'exit_head', None)
    if head is not None:
        torch.nn.init.normal_(head.fc.weight, std=0.5)
        head.num_updates.fill_(1)
    # Fresh heads of a DyVM run every direction.
    for key, value in built.named_parameters():
        if 'block_head' in key:
            torch.nn.init.normal_(value)
    weights = path.with_suffix('.pth')
    torch.save({'state_dict': built.state_dict(), 'meta': meta}, weights)
    return SimpleNamespace(
        config=str(path), checkpoint=str(weights), folder=folder
    )
