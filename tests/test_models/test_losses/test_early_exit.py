from types import SimpleNamespace

import pytest
import torch

from mmscope.models import MambaScope, observe
from mmscope.models.losses import (
    feature_consistency,
    multi_label_targets,
    stage_outputs,
)
from mmscope.models.scoping import StageOutputs


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
    targets = multi_label_targets([label, mixed], 4)
    assert targets.tolist() == [[0, 0, 1, 0], [0, 1, 1, 0]]
