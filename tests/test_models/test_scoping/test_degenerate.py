"""Inputs at the edge of what is legal: a result, or a clear error."""

import math

import pytest
import torch
from builders import hosts
from mmpretrain.models import ResNet

from mmscope.models import ExitOnly, MambaScope, VisionMamba, observe
from mmscope.models.losses import (
    cell_targets,
    coarse_fine_kl,
    exit_head_losses,
    feature_consistency,
    stage_outputs,
)
from mmscope.models.scoping import at_threshold

ARCH = {'embed_dims': 16, 'num_layers': 4}
HEAD = {
    'type': 'mmscope.MultiLabelExitHead',
    'num_classes': 4,
    'map_loss_weight': 0.4,
}


def scope(**options):
    options = {'out_type': 'featmap', 'exit_head': HEAD, **options}
    model = MambaScope(arch=ARCH, img_size=64, out_indices=(1, 3), **options)
    model.exit_head.num_updates += 1
    model.exit_head.num_map_updates += 1
    return model


def covering():
    return scope(score_metric='detail', refine_coverage=0.9)


def wrapped():
    config = {**hosts.resnet(3), 'type': ResNet}
    model = ExitOnly(backbone=config, out_type='featmap', exit_head=HEAD)
    model.exit_head.num_updates += 1
    model.exit_head.num_map_updates += 1
    return model


@pytest.mark.parametrize('make', [scope, covering, wrapped])
@pytest.mark.parametrize('eta', [None, 0.0, 0.5, 2.0])
def test_no_images_give_no_results(make, eta):
    model, nothing = make().eval(), torch.zeros(0, 3, 64, 64)
    full = model(torch.zeros(1, 3, 64, 64))
    with at_threshold(model, eta), torch.no_grad():
        maps = model(nothing)
    assert [m.shape[1:] for m in maps] == [m.shape[1:] for m in full]
    assert all(len(m) == 0 for m in maps)
    assert len(model.last_exit.exited) == 0


@pytest.mark.parametrize('make', [scope, covering, wrapped])
def test_no_images_train_nothing(make):
    model = make().train()
    with observe(model) as records:
        model(torch.zeros(0, 3, 64, 64))
    outputs = stage_outputs(records)
    losses = exit_head_losses(model, outputs, [], ignored=255)
    losses['consistency'] = feature_consistency(outputs)
    losses['kl'] = coarse_fine_kl(outputs.coarse_cls, outputs.fine_cls)
    assert set(losses) > {'loss_exit_map', 'loss_exit_coarse'}
    assert all(value == 0 for value in losses.values())
    sum(losses.values()).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)
    assert model.exit_head.num_updates == 1


def test_no_annotations_have_a_shape():
    cells = cell_targets([], (2, 3), 4, 5, True, ignored=None)
    assert cells.shape == (0, 6, 6)


@pytest.mark.parametrize('ratio', [0.0, 1e-6, 1.0])
@pytest.mark.parametrize('size', [(16, 16), (32, 32), (17, 95), (160, 16)])
def test_no_region_all_regions_and_one_region(ratio, size):
    model = scope(refine_ratio=ratio)
    rows, columns = (math.ceil(side / 16) for side in size)
    regions = math.ceil(rows / 2) * math.ceil(columns / 2)
    refined = {0.0: 0, 1.0: regions}.get(ratio, 1)
    imgs = torch.randn(2, 3, *size)
    for training in (True, False):
        maps = model.train(training)(imgs)
        assert [tuple(m.shape[2:]) for m in maps] == [(rows, columns)] * 2
        assert all(m.isfinite().all() for m in maps)
    assert model.last_exit.refined.flatten(1).sum(1).tolist() == [refined] * 2


@pytest.mark.parametrize('coverage', [1e-9, 1.0])
def test_an_image_without_any_detail_is_refined_like_others(coverage):
    options = {'refine_coverage': coverage, 'score_metric': 'detail'}
    model = scope(**options).eval()
    imgs = torch.randn(3, 3, 64, 64)
    imgs[1] = 0.5
    with torch.no_grad():
        together = model(imgs)
        alone = [model(imgs[i : i + 1]) for i in range(3)]
    for level, maps in enumerate(together):
        apart = torch.cat([maps[level] for maps in alone])
        assert torch.allclose(maps, apart, atol=1e-5)


@pytest.mark.parametrize('kind', ['RMeeTo', 'HiddenAlign', 'DyVM'])
@pytest.mark.parametrize('size', [(0, 64), (1, 16), (2, 32)])
def test_reductions_of_no_image_and_of_one_patch(kind, size):
    stages = {} if kind == 'RMeeTo' else {'prune_layers': (1, 2)}
    config = {'type': f'mmscope.{kind}', **stages}
    model = VisionMamba(arch=ARCH, img_size=64, reduction=config)
    batch, side = size
    for training in (True, False):
        with observe(model.train(training)) as records:
            (cls,) = model(torch.randn(batch, 3, side, side))
        assert cls.shape == (batch, 16)
        assert cls.isfinite().all()
        assert min(records[0].lengths) >= 1
        losses = model.reduction.losses(records[0]) if training else {}
        for loss in losses.values():
            assert loss.isfinite()
            assert batch or loss == 0
