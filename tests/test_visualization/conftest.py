"""Tiny models of all hosts with their data, as files."""

from types import SimpleNamespace

import pytest


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
    weights = path.with_suffix('.pth')
    torch.save({'state_dict': built.state_dict(), 'meta': meta}, weights)
    return SimpleNamespace(
        config=str(path), checkpoint=str(weights), folder=folder
    )


@pytest.fixture(scope='session')
def detector_run(tmp_path_factory):
    """A mask detector; 48 x 64 images are resized and padded."""
    pytest.importorskip('mmdet', reason='needs mmdetection')
    import det_builders

    folder = tmp_path_factory.mktemp('detector')
    det_builders.write_coco(folder)
    loader = det_builders.dataloader(folder, False, scale=(96, 96))
    model = det_builders.cascade()
    # Fresh weights predict that no class is there.
    model['backbone']['exit_head']['confidence'] = 'entropy'
    return write_run(folder, 'mmdet', model, loader, 'detector')


@pytest.fixture(scope='session')
def segmentor_run(tmp_path_factory):
    """A segmentor."""
    pytest.importorskip('mmseg', reason='needs mmsegmentation')
    import builders

    folder = tmp_path_factory.mktemp('segmentor')
    builders.write_scenes(folder, num=2)
    loader = builders.dataloader(folder, False)
    return write_run(
        folder, 'mmseg', builders.segmentor(), loader, 'segmentor'
    )


@pytest.fixture(scope='session')
def classifier_run(tmp_path_factory):
    """A classifier, whose checkpoint alone names the classes."""
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    import cls_builders

    folder = tmp_path_factory.mktemp('classifier')
    cls_builders.write_photos(folder / 'photos', per_class=1)
    loader = cls_builders.dataloader(folder / 'photos', False)
    return write_run(
        folder,
        'mmpretrain',
        cls_builders.classifier(),
        loader,
        'classifier',
        dataset_meta={'classes': sorted(cls_builders.COLOURS)},
    )
