"""The hook on models that know nothing of exits, of all three hosts."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from builders import classification, detection, hosts, segmentation
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope

pytest.importorskip('mmpretrain', reason='needs mmpretrain')
pytest.importorskip('mmseg.models')
pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')


@pytest.fixture(scope='session')
def photos(tmp_path_factory):
    return classification.write_photos(tmp_path_factory.mktemp('photos'))


@pytest.fixture(scope='session')
def coco(tmp_path_factory):
    return detection.write_coco(tmp_path_factory.mktemp('coco'))


OURS = 'mmscope.EarlyExitEncoderDecoder'
# MambaScope itself in UperNet, Cascade R-CNN and RetinaNet, and in our hosts:
# test_confidence_gate.py and test_detectors/test_hosts.py.
SEGMENTORS = {
    'fcn': partial(hosts.segmentor, 'fcn'),
    'segformer': partial(hosts.segmentor, 'segformer'),
    'mask2former': hosts.seg_mask2former,
    'uper, wrapped': lambda: hosts.on_resnet(
        segmentation.segmentor('EncoderDecoder')
    ),
    'fcn, wrapped': lambda: hosts.on_resnet(hosts.segmentor('fcn')),
    'ours, wrapped': lambda: hosts.on_resnet(segmentation.segmentor(OURS)),
}
DETECTORS = {
    'mask_rcnn': hosts.mask_rcnn,
    'mask2former': hosts.mask2former,
    'cascade_rcnn, wrapped': lambda: hosts.on_resnet(
        detection.cascade('CascadeRCNN')
    ),
    'mask_rcnn, wrapped': lambda: hosts.on_resnet(hosts.mask_rcnn()),
    'ours, wrapped': lambda: hosts.on_resnet(detection.cascade()),
}


def check(runner, score, losses):
    """Train two steps, and evaluate where everyone and nobody exits."""
    model = runner.model
    before = {name: p.clone() for name, p in model.named_parameters()}
    runner.train()
    found = {
        name.removeprefix('train/')
        for name in runner.message_hub.log_scalars
        if 'loss' in name
    }
    assert losses <= found
    # Biases of so small a network may see no image at all.
    still = [
        name
        for name, p in model.named_parameters()
        if p.ndim > 1 and torch.equal(p, before[name])
    ]
    assert still == []
    costs = []
    for threshold, ratio in ((0.0, 1.0), (2.0, 0.0)):
        model.backbone.exit_threshold = threshold
        metrics = runner.test()
        assert metrics['early_exit/exit_ratio'] == ratio
        assert score in metrics
        costs.append(metrics['early_exit/mean_cost'])
    assert 0 < costs[0] < costs[1]


DENSE = {'loss_exit_coarse', 'loss_exit_fine', 'loss_exit_distill'}
# Tests come after the training.
NO_VALIDATION = {
    'type': 'IterBasedTrainLoop',
    'max_iters': 2,
    'val_interval': 99,
}


def usable(host, loss):
    """Plain hosts train coarse maps by consistency, ours by their loss."""
    ours = host.startswith('ours')
    return DENSE | {loss if ours else 'loss_feature_consistency'}


@pytest.mark.parametrize('host', SEGMENTORS)
def test_segmentors(host, scenes, tmp_path):
    runner = segmentation.runner(
        scenes, tmp_path, SEGMENTORS[host](), train_cfg=NO_VALIDATION
    )
    check(runner, 'mIoU', usable(host, 'coarse_decode.loss_ce'))


@pytest.mark.parametrize('host', DETECTORS)
def test_detectors(host, coco, tmp_path):
    runner = detection.runner(
        coco, tmp_path, DETECTORS[host](), train_cfg=NO_VALIDATION
    )
    check(runner, 'coco/segm_mAP', usable(host, 'coarse_loss_rpn_cls'))


@pytest.mark.parametrize(
    'host', ['ImageClassifier', 'mmscope.CoarseToFineClassifier']
)
def test_classifiers(host, photos, tmp_path):
    runner = classification.runner(
        photos, tmp_path, hosts.classifier(host), epochs=1
    )
    check(runner, 'accuracy/top1', {'loss', 'loss_kl'})


def test_our_segmentor_says_why_it_cannot_train_mask2former():
    with DefaultScope.overwrite_default_scope('mmseg'):
        with pytest.raises(ValueError, match='Mask2FormerHead computes its'):
            MODELS.build(ConfigDict(hosts.seg_mask2former(OURS)))


def test_a_selection_hook_says_that_nothing_is_selected(photos, tmp_path):
    hook = {'type': 'mmscope.InformativeSelectionHook'}
    runner = classification.runner(
        photos, tmp_path, hosts.classifier(), custom_hooks=[hook]
    )
    with pytest.raises(ValueError, match='ExitOnly refines whole images'):
        runner.train()


def test_a_neck_behind_vectors_is_refused_by_name(photos, tmp_path):
    model = hosts.classifier()
    model['neck'] = {'type': 'GlobalAveragePooling'}
    runner = classification.runner(photos, tmp_path, model)
    with pytest.raises(ValueError, match='neck GlobalAveragePooling of'):
        runner.train()
