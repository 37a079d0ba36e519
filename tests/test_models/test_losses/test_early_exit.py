from functools import partial
from types import SimpleNamespace

import pytest
import torch
from builders import segmentation
from mmengine.structures import InstanceData, PixelData
from torch import nn

pytest.importorskip('mmseg.models')
from mmseg.models.decode_heads import FCNHead
from mmseg.structures import SegDataSample

from mmscope.models import MambaScope, losses, observe
from mmscope.models.losses import (
    feature_consistency,
    ignored_label,
    stage_outputs,
)
from mmscope.models.scoping import StageOutputs

multi_label_targets = partial(losses.multi_label_targets, ignored=255)


class Sample(SimpleNamespace):
    def __contains__(self, name):
        return name in self.__dict__

    def keys(self):
        return self.__dict__.keys()


def seg_sample(values):
    data = torch.tensor(values)
    return Sample(gt_sem_seg=SimpleNamespace(data=data))


def test_targets_are_the_labels_found():
    boxes = Sample(gt_instances=SimpleNamespace(labels=torch.tensor([2, 2])))
    empty = Sample(gt_instances=SimpleNamespace(labels=torch.tensor([])))
    targets = multi_label_targets(
        [seg_sample([[0, 255], [3, 3]]), boxes, empty], 4
    )
    expected = [[1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert targets.tolist() == expected


def test_an_all_ignore_mask_says_nothing():
    targets = multi_label_targets([seg_sample([[255, 255]])], 3)
    assert targets.isnan().all()


@pytest.mark.parametrize('value', [-1, 4])
def test_labels_outside_the_classes_are_named(value):
    with pytest.raises(ValueError, match='num_classes=4'):
        multi_label_targets([seg_sample([[0, value]])], 4)


def test_samples_without_annotation_are_named():
    with pytest.raises(ValueError, match=r"with \['img_path'\]"):
        multi_label_targets([Sample(img_path='a.jpg')], 4)


def test_consistency_is_relative_and_moves_the_coarse_maps_alone():
    fine = torch.full((1, 2, 2, 2), 2.0, requires_grad=True)
    coarse = torch.full((1, 2, 2, 2), 1.0, requires_grad=True)
    outputs = StageOutputs(
        coarse_cls=None,
        fine_cls=None,
        coarse_maps=(coarse, 10 * coarse),
        fine_maps=(fine, 10 * fine),
    )
    loss = feature_consistency(outputs)
    assert loss.item() == pytest.approx(0.25)
    loss.backward()
    assert fine.grad is None
    assert (coarse.grad < 0).all()


def test_losses_want_exactly_one_training_forward():
    model = MambaScope(arch={'embed_dims': 16, 'num_layers': 2}, img_size=64)
    imgs = torch.randn(1, 3, 64, 64)
    with observe(model.train()) as records:
        with pytest.raises(RuntimeError, match='got none'):
            stage_outputs(records)
        model(imgs)
        assert stage_outputs(records) is records[0]
        model(imgs)
        with pytest.raises(RuntimeError, match="'StageOutputs', 'StageOutp"):
            stage_outputs(records)
    with observe(model.eval()) as records:
        model(imgs)
    with pytest.raises(RuntimeError, match=r"training mode.*'ExitRecord'"):
        stage_outputs(records)


def test_labels_and_mixed_scores_of_classifiers_are_targets():
    label = Sample(gt_label=torch.tensor([2]))
    mixed = Sample(gt_score=torch.tensor([0.0, 0.7, 0.3, 0.0]))
    # What mmpretrain's CutMix leaves: the label as it was before.
    both = Sample(gt_label=torch.tensor([0]), gt_score=mixed.gt_score)
    targets = multi_label_targets([label, mixed, both], 4)
    assert targets.tolist() == [[0, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0]]


@pytest.mark.parametrize('ignored', [0, 3, -1, 300])
def test_the_label_that_the_host_ignores_is_not_present(ignored):
    found = losses.multi_label_targets(
        [seg_sample([[1, ignored], [255, 1]])], 300, ignored=ignored
    )
    assert found.nonzero()[:, 1].tolist() == [1, 255]
    alone = losses.multi_label_targets(
        [seg_sample([[ignored]])], 300, ignored=ignored
    )
    assert alone.isnan().all()


def test_where_nothing_is_ignored_every_label_counts():
    found = losses.multi_label_targets([seg_sample([[0, 2]])], 3, ignored=None)
    assert found.tolist() == [[1, 0, 1]]
    with pytest.raises(ValueError, match=r'to 255.* none is ignored'):
        losses.multi_label_targets([seg_sample([[255]])], 3, ignored=None)


def test_the_message_names_the_label_that_is_ignored():
    with pytest.raises(ValueError, match=r'0 to 255.*label 3 is ignored'):
        losses.multi_label_targets(
            [seg_sample([[0, 255], [1, 3]])], 3, ignored=3
        )


def test_samples_of_both_hosts_say_the_same():
    det = pytest.importorskip('mmdet.structures')
    labels = torch.tensor([[[0, 2], [2, 255]]])
    of_mmseg, of_mmdet = SegDataSample(), det.DetDataSample()
    of_mmseg.gt_sem_seg = PixelData(data=labels)
    of_mmdet.gt_sem_seg = PixelData(sem_seg=labels)
    found = multi_label_targets([of_mmseg, of_mmdet], 4)
    assert found.tolist() == [[1, 0, 1, 0]] * 2
    # The map of a detector may have another numbering than its boxes.
    boxes = torch.zeros(1, 4)
    of_mmdet.gt_instances = InstanceData(
        bboxes=boxes, labels=torch.tensor([3])
    )
    assert multi_label_targets([of_mmdet], 4).tolist() == [[0, 0, 0, 1]]


def test_a_host_says_what_it_ignores():
    sizes = {'in_channels': 4, 'channels': 4, 'num_classes': 3}
    host = nn.Module()
    assert ignored_label(host) is None
    host.decode_head = FCNHead(**sizes)
    assert ignored_label(host) == 255
    host.decode_head = FCNHead(**sizes, ignore_index=0)
    assert ignored_label(host) == 0
    # Of a cascade the last head predicts.
    last = FCNHead(**sizes, ignore_index=7)
    host.decode_head = nn.ModuleList([host.decode_head, last])
    assert ignored_label(host) == 7


@pytest.mark.parametrize(
    'host', ['EncoderDecoder', 'mmscope.EarlyExitEncoderDecoder']
)
def test_a_host_that_ignores_label_0_teaches_it_to_nobody(
    scenes, tmp_path, host
):
    model = segmentation.segmentor(host)
    model['backbone']['exit_head'].update(
        confidence='map', loss_weight=1.0, distill_weight=0.0
    )
    for head in ('decode_head', 'auxiliary_head'):
        model[head]['ignore_index'] = 0
    model['data_preprocessor']['seg_pad_val'] = 0
    runner = segmentation.runner(scenes, tmp_path, model, iters=1)
    seen = []
    runner.model.backbone.exit_head.fc.register_full_backward_hook(
        lambda module, into, out: seen.append(out[0])
    )
    for name in ('fc', 'fc_map'):
        nn.init.zeros_(getattr(runner.model.backbone.exit_head, name).weight)
    runner.train()
    # BCE pulls a logit up where the class is present.
    assert all((grad[:, 0] >= 0).all() for grad in seen)
    assert any((grad[:, 1] < 0).any() for grad in seen)
    assert runner.model.backbone.exit_head.is_trained
