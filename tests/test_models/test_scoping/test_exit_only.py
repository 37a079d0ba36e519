"""An early exit around backbones that know nothing of it."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS, DefaultScope
from torch import nn

pytest.importorskip('mmpretrain', reason='needs the mmpretrain host')

import mmpretrain.models  # noqa: F401  (registers its backbones)

from mmscope.models import (
    ExitOnly,
    MambaScope,
    attach_gate,
    is_two_stage,
    observe,
)
from mmscope.models.scoping import StageOutputs
from mmscope.models.scoping.wrapping import running_statistics

RESNET = {
    'type': 'mmpretrain.ResNet',
    'depth': 18,
    'stem_channels': 4,
    'base_channels': 4,
    'out_indices': (0, 1, 2, 3),
}
CONVNEXT = {
    'type': 'mmpretrain.ConvNeXt',
    'arch': {'depths': [1, 1, 1, 1], 'channels': [4, 8, 12, 16]},
    'out_indices': (0, 1, 2, 3),
    'gap_before_final_norm': False,
}
SWIN = {
    'type': 'mmpretrain.SwinTransformer',
    'arch': {
        'embed_dims': 8,
        'depths': [1, 1, 1, 1],
        'num_heads': [1, 1, 1, 1],
    },
    'img_size': 64,
    'out_indices': (0, 1, 2, 3),
    'pad_small_map': True,
}
VIT = {
    'type': 'mmpretrain.VisionTransformer',
    'arch': {
        'embed_dims': 16,
        'num_layers': 1,
        'num_heads': 1,
        'feedforward_channels': 16,
    },
    'img_size': 64,
}
OURS = {
    'type': 'mmscope.VisionMamba',
    'arch': {'embed_dims': 16, 'num_layers': 2},
    'img_size': 64,
    'out_type': 'featmap',
}
HEAD = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 3}
HOST_HEAD = {
    'type': 'mmpretrain.LinearClsHead',
    'num_classes': 3,
    'loss': {'type': 'mmpretrain.CrossEntropyLoss'},
}


def wrapped(backbone=RESNET, **options):
    torch.manual_seed(0)
    return MODELS.build(
        {'type': 'mmscope.ExitOnly', 'backbone': backbone, **options}
    )


def images(height=64, width=96, number=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(number, 3, height, width, generator=generator)


@pytest.fixture(autouse=True)
def no_host_s_scope():
    with DefaultScope.overwrite_default_scope('mmscope'):
        yield


@pytest.mark.parametrize('size', [(64, 96), (75, 101)])
@pytest.mark.parametrize(
    'backbone',
    [RESNET, CONVNEXT, SWIN, {**VIT, 'out_type': 'featmap'}, OURS],
    ids=['resnet', 'convnext', 'swin', 'vit', 'ours'],
)
def test_nobody_exits_equals_the_plain_backbone(backbone, size):
    model = wrapped(backbone, out_type='featmap').eval()
    imgs = images(*size)
    with torch.no_grad():
        plain, full = model.backbone(imgs), model(imgs)
        model.exit_threshold = 0.0
        exited = model(imgs)
    for a, b, c in zip(plain, full, exited, strict=True):
        assert torch.equal(a, b)
        assert c.shape == a.shape
    assert model.last_exit.exited.all()
    assert not model.last_exit.refined.any()


def test_an_exit_gives_the_half_image_s_maps_doubled():
    model = wrapped(out_type='featmap', exit_threshold=0.0).eval()
    imgs = images(64, 128)
    with torch.no_grad():
        half = nn.functional.avg_pool2d(imgs, 2)
        expected = [
            nn.functional.interpolate(level, scale_factor=2, mode='nearest')
            for level in model.backbone(half)
        ]
        found = model(imgs)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ('backbone', 'grid', 'sizes'),
    [
        # 96 x 72 pixels are 3 x 3 cells of 32; at half the size 2 x 2.
        (RESNET, (2, 2), [(24, 18), (12, 9), (6, 5), (3, 3)]),
        # This one leaves rests out: 3 x 2, at half the size 2 x 1.
        (CONVNEXT, (2, 1), [(24, 18), (12, 9), (6, 4), (3, 2)]),
    ],
    ids=['rounds up', 'rounds down'],
)
def test_cells_of_the_padding_do_not_count(backbone, grid, sizes):
    model = wrapped(backbone, out_type='featmap').eval()
    with torch.no_grad():
        stage = model.forward_coarse(images(96, 72))
    assert stage.grid == grid
    assert stage.tokens.shape == (3, grid[0] * grid[1], model.embed_dims)
    torch.testing.assert_close(stage.cls, stage.tokens.mean(1))
    assert [tuple(m.shape[-2:]) for m in stage.maps] == sizes


def test_vectors_are_the_average_of_the_last_map():
    model = wrapped().eval()
    imgs = images()
    with torch.no_grad():
        (found,) = model(imgs)
        model.exit_threshold = 0.0
        (exited,) = model(imgs)
        half = nn.functional.avg_pool2d(imgs, 2)
        for vector, seen in ((found, imgs), (exited, half)):
            expected = model.backbone(seen)[-1].mean((-2, -1))
            torch.testing.assert_close(vector, expected)


def test_a_vector_is_taken_as_it_is():
    model = wrapped(VIT).eval()
    imgs = images()
    with torch.no_grad(), observe(model) as records:
        assert torch.equal(model(imgs)[0], model.backbone(imgs)[-1])
    (record,) = records
    assert (record.grid, record.coarse_tokens) == ((1, 1), 1)
    assert record.added_tokens.tolist() == [1, 1, 1]


def test_images_are_split_and_put_back_in_order():
    model = wrapped(out_type='featmap', exit_head=HEAD).eval()
    model.exit_head.num_updates += 1
    nn.init.normal_(model.exit_head.fc.weight)
    model.gate.kind = 'entropy'
    imgs = images(number=5)
    with torch.no_grad():
        model.exit_threshold = 0.0
        coarse = model(imgs)
        confidence = model.last_exit.confidence
        model.exit_threshold = 2.0
        full = model(imgs)
        model.exit_threshold = float(confidence.sort().values[2])
        mixed = model(imgs)
    exited = model.last_exit.exited
    assert exited.tolist() == (confidence >= model.exit_threshold).tolist()
    assert exited.sum() == 3
    for level in range(4):
        for row, gone in enumerate(exited):
            wanted = coarse if gone else full
            torch.testing.assert_close(
                mixed[level][row], wanted[level][row], rtol=1e-4, atol=1e-5
            )
    record = model.last_exit
    assert record.refined.flatten(1).all(1).tolist() == (~exited).tolist()
    assert record.image_size == (64, 96)
    # 1 x 2 coarse cells of 64 pixels, 2 x 3 of 32.
    assert (record.grid, record.lengths) == ((1, 2), [2])
    assert record.fine_lengths == [6]
    assert record.added_tokens.tolist() == [6] * 5


def test_nobody_leaves_at_threshold_two_and_a_gate_is_asked_for():
    model = wrapped(exit_threshold=0.5).eval()
    with pytest.raises(RuntimeError, match='nothing predicts'):
        model(images())
    model.exit_threshold = 2.0
    model(images())
    assert not model.last_exit.exited.any()


def statistics(module):
    return {k: v.clone() for k, v in module.named_buffers()}


@pytest.mark.parametrize('out_type', ['cls_token', 'featmap'])
def test_batch_norm_follows_the_full_pass_alone(out_type):
    model = wrapped(out_type=out_type).train()
    # Some hosts' train() returns nothing.
    plain = copy.deepcopy(model.backbone)
    before = statistics(plain)
    for seed in (1, 2):
        imgs = torch.randn(
            4, 3, 64, 64, generator=torch.Generator().manual_seed(seed)
        )
        model(imgs)
        plain(imgs)
    found, wanted = statistics(model.backbone), statistics(plain)
    assert found.keys() == wanted.keys()
    assert any(not torch.equal(before[k], wanted[k]) for k in wanted)
    for name in wanted:
        assert torch.equal(found[name], wanted[name]), name
    assert all(m.training for m in model.modules())
    if out_type == 'featmap':
        for a, b in zip(plain(imgs), model(imgs), strict=True):
            assert torch.equal(a, b)


def test_the_coarse_pass_trains_on_what_evaluation_computes():
    model = wrapped(out_type='featmap').train()
    imgs = images()
    with observe(model) as records:
        model(imgs)
    model.eval()
    model.exit_threshold = 0.0
    with torch.no_grad():
        exited = model(imgs)
    (record,) = records
    assert isinstance(record, StageOutputs)
    for a, b in zip(record.coarse_maps, exited, strict=True):
        torch.testing.assert_close(a.detach(), b)
    assert record.coarse_features.shape == (3, 2, model.embed_dims)


def test_gradients_of_the_coarse_pass_are_those_of_evaluation():
    model = wrapped().train()
    imgs = images()
    with observe(model) as records:
        model(imgs)
    weight = model.backbone.layer1[0].conv1.weight
    (found,) = torch.autograd.grad(
        records[0].coarse_cls.square().sum(), weight
    )
    model.eval()
    vector = model.forward_coarse(imgs).cls
    (wanted,) = torch.autograd.grad(vector.square().sum(), weight)
    torch.testing.assert_close(found, wanted)


def test_statistics_of_a_norm_that_is_frozen_stay_frozen():
    module = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2))
    module[0].eval()
    with running_statistics(module):
        assert not module[1].training
        assert module.training
    assert [m.training for m in module] == [False, True]


def test_training_gives_both_vectors_and_one_record():
    model = wrapped(exit_head=HEAD).train()
    with observe(model) as records:
        coarse, full = model(images())
    (record,) = records
    assert record.coarse_cls is coarse
    assert record.fine_cls is full
    assert record.coarse_maps == record.fine_maps == ()
    assert (record.lengths, record.fine_lengths) == ([2], [6])
    (coarse.sum() + full.sum()).backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


def test_nothing_is_left_lying_on_a_module():
    model = wrapped(out_type='featmap', exit_head=HEAD, exit_threshold=0.0)

    def entries():
        return {
            (name, key): id(value)
            for name, module in model.named_modules()
            for key, value in vars(module).items()
        }

    for mode in (True, False):
        model.train(mode)
        before = entries()
        model(images())
        assert entries() == before
        copied = copy.deepcopy(model)
        assert copied.gate.owner is copied


def test_weights_of_the_plain_backbone_load(tmp_path):
    plain = MODELS.build(RESNET)
    torch.manual_seed(3)
    for p in plain.parameters():
        nn.init.normal_(p)
    host = {f'backbone.{k}': v for k, v in plain.state_dict().items()}
    path = tmp_path / 'plain.pth'
    torch.save({'state_dict': host}, path)
    pretrained = {
        'type': 'Pretrained',
        'checkpoint': str(path),
        'prefix': 'backbone.',
    }
    inside = wrapped({**RESNET, 'init_cfg': pretrained})
    outside = wrapped(init_cfg=pretrained)
    strict = wrapped()
    for model in (inside, outside):
        model.init_weights()
    # A checkpoint of a plain host, into a host that wraps.
    owner = nn.ModuleDict({'backbone': strict})
    owner.load_state_dict(host, strict=True)
    for model in (inside, outside, strict):
        for name, value in plain.state_dict().items():
            assert torch.equal(model.backbone.state_dict()[name], value)
    # And its own go back in.
    again = wrapped()
    again.load_state_dict(strict.state_dict(), strict=True)
    assert set(again.state_dict()) == {
        f'backbone.{name}' for name in plain.state_dict()
    }


def test_weights_of_an_exit_head_alone_load():
    head = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 4}
    source, target = wrapped(exit_head=head), wrapped(exit_head=head)
    nn.init.normal_(source.exit_head.fc.weight)
    state = {
        name: value
        for name, value in source.state_dict().items()
        if name.startswith('exit_head.')
    }
    target.load_state_dict(dict(state), strict=False)
    for name, value in state.items():
        assert torch.equal(target.state_dict()[name], value)


def test_it_is_two_stage_by_name_and_by_instance():
    assert is_two_stage('mmscope.ExitOnly')
    assert is_two_stage(wrapped())


class Odd(BaseModule):
    """A backbone that does what a case says."""

    def __init__(self, case):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4, padding=1)
        self.case = case

    def forward(self, x):
        y = self.conv(x)
        if self.case == 'fixed' and x.shape[-1] != 224:
            raise AssertionError('224 alone')
        return {
            'dict': {'a': y},
            'tensor': y,
            'empty': (),
            'nested': ((y, y),),
            'sequence': (y.flatten(2),),
            'stride': (y[..., :29, :29],),
            'wide': (y[..., :16],),
            'mixed': (y[..., : 32 if x.shape[-1] < 132 else 5],),
        }.get(self.case, (y,))


MODELS.register_module(name='OddBackboneOfTests', module=Odd, force=True)


def odd(case):
    return {'type': 'OddBackboneOfTests', 'case': case}


@pytest.mark.parametrize(
    ('backbone', 'message'),
    [
        (None, r'dict with a type, such as .* got None'),
        ({}, r'dict with a type'),
        ({'depth': 50}, r"got {'depth': 50}"),
        ('ResNet', "got 'ResNet'"),
        ({'type': 'NoSuchNet'}, r"cannot build its backbone 'NoSuchNet'"),
        ({'type': 'ResNet', 'depth': 50}, r"type='mmpretrain.ResNet'"),
        (odd('dict'), r'a tuple of tensors, Odd gives dict'),
        (odd('tensor'), r'a tuple of tensors, Odd gives Tensor'),
        (odd('empty'), r'a tuple of tensors, Odd gives tuple'),
        (odd('nested'), r'a tuple of tensors, Odd gives tuple'),
        (odd('sequence'), r'Odd gives \[\(1, 4, 1024\)\]'),
        (odd('stride'), r'29 x 29 cells for 128 x 128 pixels'),
        (odd('wide'), r'32 x 16 cells'),
        (odd('fixed'), r'Odd fails on zeros .* 224 alone'),
        (VIT, r'needs maps of its backbone; VisionTransformer gives'),
        (
            {**OURS, 'type': 'mmscope.MambaScope'},
            r'adds an early exit, and MambaScope has one',
        ),
        (
            {**OURS, 'reduction': {'type': 'mmscope.RMeeTo'}},
            r'VisionMamba with RMeeTo: use one of them',
        ),
        ({**RESNET, 'with_cp': True}, r'ResNet recomputes batch norm'),
    ],
    ids=str,
)
def test_backbones_that_cannot_be_wrapped_are_refused(backbone, message):
    with pytest.raises(ValueError, match=message):
        wrapped(backbone, out_type='featmap')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'out_type': 'maps'}, r"out_type must be one of .* got 'maps'"),
        ({'exit_threshold': -1}, r'exit_threshold must be None or'),
        ({'exit_head': 'linear'}, r"exit_head must be .* got 'linear'"),
        ({'exit_head': {'num_classes': 3}}, r'a dict with a type'),
        ({'exit_threshold': 'high'}, r"got 'high' of type str"),
        ({'exit_threshold': float('nan')}, r'exit_threshold must be'),
        (
            {'exit_head': {**HEAD, 'in_channels': 5}},
            r'in_channels=5, and ExitOnly gives it vectors of 32 channels',
        ),
        (
            {'exit_head': HOST_HEAD},
            r'a LinearClsHead, which offers no kind of confidence',
        ),
        (
            {'exit_head': {**HEAD, 'num_classes': 0}},
            r'num_classes must be a whole number of at least 1',
        ),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        wrapped(**options)


def test_maps_that_the_strides_did_not_tell_are_refused():
    model = wrapped(odd('mixed'), out_type='featmap').eval()
    model(images(128, 128))
    with pytest.raises(ValueError, match=r'pad images to multiples of 4'):
        model(images(128, 160))


class Host(nn.Module):
    """A host with the parts of a case."""

    def __init__(self, backbone, **parts):
        super().__init__()
        self.backbone = backbone
        for name, part in parts.items():
            setattr(self, name, part)


@pytest.mark.parametrize(
    ('out_type', 'parts', 'message'),
    [
        (
            'cls_token',
            {'neck': nn.AdaptiveAvgPool2d(1), 'head': nn.Identity()},
            r'neck AdaptiveAvgPool2d of Host would .* model.neck=None',
        ),
        (
            'cls_token',
            {'decode_head': nn.Identity()},
            r"Host needs maps.* backbone.out_type='featmap'",
        ),
        (
            'featmap',
            {'head': nn.Identity()},
            r"set backbone.out_type='cls_token' and model.neck=None",
        ),
    ],
)
def test_hosts_that_do_not_fit_are_refused(out_type, parts, message):
    model = Host(wrapped(out_type=out_type, exit_head=HEAD), **parts)
    with pytest.raises(ValueError, match=message):
        attach_gate(model, 0.5)


def test_other_two_stage_backbones_fit_every_host():
    backbone = MambaScope(
        arch={'embed_dims': 16, 'num_layers': 2}, img_size=64, exit_head=HEAD
    )
    attach_gate(Host(backbone, neck=nn.Identity(), head=nn.Identity()), 0.5)


def test_backbones_of_our_own_are_wrapped_from_outside():
    model = wrapped(OURS, out_type='featmap').eval()
    with observe(model) as records:
        model(images())
    assert isinstance(model, ExitOnly)
    assert records == [model.last_exit]


def calls_of(module):
    """Sizes (H, W) that a module is run on from now on."""
    sizes = []
    module.register_forward_pre_hook(
        lambda _, args: sizes.append(tuple(args[0].shape[-2:]))
    )
    return sizes


@pytest.mark.parametrize('out_type', ['cls_token', 'featmap'])
@pytest.mark.parametrize('head', [None, HEAD], ids=['no head', 'head'])
@torch.no_grad()
def test_without_a_threshold_the_full_pass_alone_runs(out_type, head):
    model = wrapped(out_type=out_type, exit_head=head).eval()
    sizes, imgs = calls_of(model.backbone), images()
    alone = model(imgs)
    record = model.last_exit
    assert sizes == [(64, 96)]
    assert (record.lengths, record.fine_lengths) == ([0], [6])
    assert (record.grid, record.coarse_tokens) == ((0, 0), 0)
    assert record.exited.tolist() == [False] * 3
    assert record.added_tokens.tolist() == [6] * 3
    with observe(model) as records:
        both = model(imgs)
    assert sizes[2:] == [(64, 96)]
    assert len(sizes) == 3
    assert records[0].coarse_tokens == 2
    for one, other in zip(alone, both, strict=True):
        assert torch.equal(one, other)


@torch.no_grad()
def test_half_of_a_small_image_is_refused_where_it_must_run():
    # It halves its map three times behind a stride of 4, without padding.
    vectors = {**CONVNEXT, 'out_indices': (3,), 'gap_before_final_norm': True}
    model, imgs = wrapped(vectors).eval(), images(62, 62)
    assert torch.equal(model(imgs)[0], model.backbone(imgs)[-1])
    message = r'half of 62 x 62 pixels, 31 x 31, is too small for ConvNeXt'
    model.exit_threshold = 0.0
    for training in (False, True):
        with pytest.raises(ValueError, match=message) as caught:
            model.train(training)(imgs)
        assert 'Kernel size' in str(caught.value.__cause__)
        assert all(part.training == training for part in model.modules())


@torch.no_grad()
def test_what_the_plain_backbone_refuses_is_its_own_error():
    model = wrapped(exit_threshold=0.0).eval()
    with pytest.raises(RuntimeError, match='type'):
        model(images().double())


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize(
    ('imgs', 'error', 'message'),
    [
        ([torch.zeros(3, 64, 64)], TypeError, r'a tensor .* got list'),
        (torch.zeros(3, 64, 64), ValueError, r'got \(3, 64, 64\)'),
        (torch.zeros(1, 1, 64, 64), ValueError, r'\(B, 3, H, W\), got'),
        (images().byte(), ValueError, r'floats, got torch.uint8'),
        (torch.zeros(1, 3, 0, 64), ValueError, r'0 x 64 pixels have none'),
    ],
    ids=['list', 'rank', 'channels', 'uint8', 'no rows'],
)
def test_what_is_no_batch_of_images_is_refused(imgs, error, message, training):
    model = wrapped(exit_threshold=0.0).train(training)
    with pytest.raises(error, match=message):
        model(imgs)
