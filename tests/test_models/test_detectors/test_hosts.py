"""Backbone and neck in mmdet's own detectors, and in ours."""

import pytest
import torch
from builders import detection

pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmscope.models.scoping import attach_gate
from mmscope.registry import MODELS

HOSTS = {
    'ours': lambda: detection.cascade(),
    'cascade': lambda: detection.cascade('CascadeRCNN'),
    'faster_rcnn': detection.faster_rcnn,
    'retinanet': detection.retinanet,
}


def with_masks(host):
    return host in ('ours', 'cascade')


@pytest.mark.parametrize('host', HOSTS)
def test_hosts_train_and_test_through_the_runner(host, coco, tmp_path):
    runner = detection.runner(
        coco, tmp_path, HOSTS[host](), with_mask=with_masks(host)
    )
    before = {name: p.clone() for name, p in runner.model.named_parameters()}
    runner.train()
    losses = {
        name.removeprefix('train/')
        for name in runner.message_hub.log_scalars
        if 'loss_' in name
    }
    assert {'loss_exit_coarse', 'loss_exit_fine'} <= losses
    # Our host trains its heads on the coarse maps; others cannot.
    usable = 'loss_feature_consistency'
    if host == 'ours':
        usable = 'coarse_loss_rpn_cls'
    assert usable in losses
    still = [
        name
        for name, p in runner.model.named_parameters()
        if torch.equal(p, before[name])
    ]
    assert still == []
    assert runner.model.backbone.exit_head.is_trained
    runner.model.backbone.exit_threshold = 0.0
    scores = runner.test()
    assert scores['early_exit/exit_ratio'] == 1.0
    assert scores['early_exit/mean_cost'] > 0
    assert 'coco/bbox_mAP' in scores
    assert ('coco/segm_mAP' in scores) is with_masks(host)


@pytest.mark.parametrize('host', HOSTS)
@torch.no_grad()
def test_a_gate_splits_the_batch_of_any_detector(
    host, coco, spread_confidences, assert_same_detections
):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(ConfigDict(HOSTS[host]())).eval()
        loader = Runner.build_dataloader(
            detection.dataloader(
                coco, train=False, batch_size=4, with_mask=with_masks(host)
            )
        )

    def predict(threshold):
        attach_gate(model, threshold)
        data = model.data_preprocessor(next(iter(loader)), False)
        return model(**data, mode='predict')

    data = model.data_preprocessor(next(iter(loader)), False)
    values = spread_confidences(model, data['inputs'])
    coarse, fine = predict(0.0), predict(2.0)
    between = predict(float(values[1:3].mean()))
    exited = model.backbone.last_exit.exited.tolist()
    assert sorted(exited) == [False, False, True, True]
    for i, result in enumerate(between):
        assert_same_detections(result, (coarse if exited[i] else fine)[i])
    scores = [r[0].pred_instances.scores for r in (coarse, fine)]
    assert not torch.equal(*scores)
