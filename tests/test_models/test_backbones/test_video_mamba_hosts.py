"""VideoMamba and its scope in all three hosts, trained and gated."""

from __future__ import annotations

import pytest
import torch

from mmscope.models import VideoMamba, VideoMambaScope, is_two_stage
from mmscope.models.backbones.weights_info import WeightsInfo

SCOPE = 'mmscope.VideoMambaScope'
ENTRY = 'backbone._extra_state'


def gated(threshold):
    hook = {'type': 'mmscope.ConfidenceGateHook', 'exit_threshold': threshold}
    return {'custom_hooks': [hook]}


def classification(tmp_path):
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    import cls_builders

    root = cls_builders.write_photos(tmp_path / 'data')

    def make(name, kind=SCOPE, **options):
        host, head = 'mmscope.CoarseToFineClassifier', None
        if kind != SCOPE:
            host, head = 'ImageClassifier', {'type': 'LinearClsHead'}
        # Two steps of six images.
        model = cls_builders.classifier(host, head, type=kind)
        loader = cls_builders.dataloader(root, True, batch_size=6)
        return cls_builders.runner(
            root,
            tmp_path / name,
            model,
            epochs=1,
            train_dataloader=loader,
            **options,
        )

    return make


def segmentation(tmp_path):
    pytest.importorskip('mmseg', reason='needs mmsegmentation')
    import builders

    root = builders.write_scenes(tmp_path / 'data')

    def make(name, kind=SCOPE, **options):
        model = builders.segmentor(type=kind)
        if kind != SCOPE:
            model['type'] = 'EncoderDecoder'
            del model['backbone']['exit_head']
        folder = tmp_path / name
        return builders.runner(root, folder, model, iters=2, **options)

    return make


def detection(tmp_path):
    pytest.importorskip('mmdet', reason='needs mmdetection')
    import det_builders

    root = det_builders.write_coco(tmp_path / 'data')

    def make(name, kind=SCOPE, **options):
        backbone = det_builders.backbone(type=kind)
        if kind != SCOPE:
            del backbone['exit_head']
        host = 'mmscope.EarlyExitCascadeRCNN'
        model = det_builders.cascade(
            host if kind == SCOPE else 'CascadeRCNN', backbone=backbone
        )
        folder = tmp_path / name
        return det_builders.runner(root, folder, model, iters=2, **options)

    return make


HOSTS = (classification, segmentation, detection)


def weights(runner):
    return {k: v.clone() for k, v in runner.model.named_parameters()}


def last(folder):
    (path,) = (
        p for p in folder.glob('*.pth') if p.stem in ('iter_2', 'epoch_1')
    )
    return path


@pytest.mark.parametrize('host', HOSTS, ids=lambda host: host.__name__)
def test_the_scope_trains_and_exits(host, tmp_path):
    make = host(tmp_path)
    runner = make('train')
    assert isinstance(runner.model.backbone, VideoMambaScope)
    before = weights(runner)
    runner.train()
    assert runner.iter == 2
    moved = [
        name
        for name, value in weights(runner).items()
        if name.startswith('backbone.')
        and not torch.equal(value, before[name])
    ]
    parts = ('pos_embed', 'coarse_pos_embed', 'reuse.0.weight', 'cls_token')
    assert {f'backbone.{part}' for part in parts} <= set(moved)
    path = last(tmp_path / 'train')
    saved = torch.load(path, weights_only=False)['state_dict']
    assert WeightsInfo.unpack(saved[ENTRY]).family == 'VideoMamba'
    ratios = []
    for name, threshold in (('all', 0.0), ('none', 1.5)):
        tester = make(name, load_from=str(path), **gated(threshold))
        ratios.append(tester.test()['early_exit/exit_ratio'])
        assert tester.model.backbone.exit_threshold == threshold
    assert ratios == [1.0, 0.0]


@pytest.mark.parametrize('host', HOSTS, ids=lambda host: host.__name__)
def test_the_plain_family_trains_and_tests(host, tmp_path):
    runner = host(tmp_path)('train', 'mmscope.VideoMamba', custom_hooks=[])
    assert type(runner.model.backbone) is VideoMamba
    assert not is_two_stage(runner.model)
    before = weights(runner)['backbone.cls_token']
    runner.train()
    assert runner.iter == 2
    # A map has no cls, but the scan carries it into the patches.
    assert not torch.equal(weights(runner)['backbone.cls_token'], before)
    assert runner.test()
