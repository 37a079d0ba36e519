"""Mamba-Reg and its scope: registers, the neck, what is refused."""

from __future__ import annotations

import pytest
import torch

from mmscope.analysis import stage_costs
from mmscope.models import MambaReg, MambaRegScope, VisionMamba
from mmscope.models.layers import resize_pos_embed
from mmscope.models.layers.position import NO_SUMMARY
from mmscope.testing import assert_close

ARCH = {'embed_dims': 16, 'num_layers': 4}
MAPS = {'out_type': 'featmap', 'out_indices': (0, 3)}
# Parameters with the head; G of the head, paper and exact.
PUBLISHED = {
    'tiny': (12, 9_264_232, 1.530, 1.925),
    'small': (12, 27_801_064, 5.359, 6.241),
    'base': (12, 99_301_096, 19.918, 22.049),
    'large': (16, 341_222_376, 70.641, 77.101),
}
STAGES = {
    'tiny': (0.449, 1.336),
    'small': (1.571, 4.672),
    'base': (5.839, 17.348),
}


def make(family=MambaReg, **options):
    torch.manual_seed(0)
    options = {'arch': ARCH, 'img_size': 64, 'num_registers': 3, **options}
    return family(**options).eval()


def on_meta(family, arch):
    with torch.device('meta'):
        return family(arch=arch, num_registers=PUBLISHED[arch][0])


@pytest.mark.parametrize('arch', PUBLISHED)
def test_parameters_and_costs_are_exact_with_the_1000_class_head(arch):
    model = on_meta(MambaReg, arch)
    _, count, *costs = PUBLISHED[arch]
    width = model.summary_dims
    own = sum(p.numel() for p in model.parameters())
    assert own + 1000 * (width + 1) == count
    for convention, wanted in zip(('paper', 'exact'), costs, strict=True):
        found = stage_costs(model, (14, 14), convention).fine + 1000 * width
        assert round(found / 1e9, 3) == wanted


@pytest.mark.parametrize('arch', STAGES)
def test_costs_of_the_two_stages(arch):
    model = on_meta(MambaRegScope, arch)
    costs, head = stage_costs(model, (7, 7)), 1000 * model.summary_dims
    found = [round((x + head) / 1e9, 3) for x in (costs.coarse, costs.fine)]
    assert tuple(found) == STAGES[arch]


@torch.no_grad()
def test_one_register_without_a_neck_is_vim():
    ours = make(num_registers=1)
    vim = make_vim(ours)
    imgs = torch.randn(2, 3, 64, 64)
    assert_close('features', ours(imgs)[0], vim(imgs)[0], torch.float32)


def make_vim(ours):
    """A ViM that has the same weights; 16 patches: cls stands at 8."""
    vim = VisionMamba(arch=ARCH, img_size=64).eval()
    assert ours.summary_tokens.places(16) == vim.summary_tokens.places(16)
    state = dict(ours.named_parameters())
    vim.load_state_dict(
        {
            **{k: v for k, v in state.items() if k != 'pos_embed_cls'},
            'pos_embed': vim.summary_tokens.insert(
                ours.pos_embed, ours.pos_embed_cls
            ),
        }
    )
    return vim


@torch.no_grad()
@pytest.mark.parametrize(('reduce', 'width'), [(1, 48), (2, 24), (16, 3)])
def test_registers_stand_side_by_side_in_order(reduce, width):
    model = make(cls_reduce=reduce)
    assert model.summary_dims == width
    assert hasattr(model, 'neck') == (reduce > 1)
    encoded = model.encode_images(torch.randn(2, 3, 64, 64))
    rows = [encoded.tokens[:, place] for place in (4, 9, 14)]
    wanted = torch.cat(rows, -1)
    if reduce > 1:
        wanted = torch.cat([model.neck(row) for row in rows], -1)
        wanted = model.norm_neck(wanted)
    summary = encoded.sequence.summary(encoded.tokens)
    assert_close('vector', model.read_out(summary), wanted, torch.float32)


@torch.no_grad()
def test_maps_have_no_neck_and_heads_see_the_mean_of_the_registers():
    model = make(arch={**ARCH}, cls_reduce=2, **MAPS)
    names = {name.split('.')[0] for name in model.state_dict()}
    assert not names & {'neck', 'norm_neck'}
    assert model.summary_dims == 16
    summary = torch.randn(2, 3, 16)
    assert torch.equal(model.read_out(summary), summary.mean(1))
    assert [x.shape for x in model(torch.randn(1, 3, 48, 80))] == [
        (1, 16, 3, 5)
    ] * 2


@torch.no_grad()
def test_registers_are_woven_into_the_fine_tokens_of_both_stages():
    scope = make(MambaRegScope, refine_ratio=0.5)
    stage = scope.forward_coarse(torch.randn(1, 3, 64, 64))
    layout = scope.layout(stage)
    # Four coarse tokens; eight fine ones, and two coarse ones behind.
    assert scope.summary_tokens.places(4) == (1, 3, 5)
    assert layout.places == scope.summary_tokens.places(8) == (2, 5, 8)
    assert layout.num_tokens == 8 + 3 + 2


def test_another_size_resizes_the_patches_positions_alone():
    source, target = make(), make(img_size=96)
    target.load_state_dict(source.state_dict())
    wanted = resize_pos_embed(source.pos_embed, (4, 4), (6, 6), NO_SUMMARY)
    assert torch.equal(target.pos_embed, wanted)
    assert torch.equal(target.pos_embed_cls, source.pos_embed_cls)


def test_registers_and_positions_are_embeddings():
    model = make(frozen_stages=0, cls_reduce=2)
    for name in ('cls_token', 'pos_embed_cls', 'pos_embed'):
        assert name in model.no_decay_names()
        assert model.get_layer_depth(name) == (0, 6)
        assert not getattr(model, name).requires_grad
    assert 'norm_neck.weight' in model.no_decay_names()
    assert model.get_layer_depth('neck.weight') == (5, 6)


@pytest.mark.parametrize('value', [0, -1, 1.5, '3', True, None])
def test_bad_numbers_of_registers_are_refused(value):
    with pytest.raises(ValueError, match='num_registers must be a whole'):
        make(num_registers=value)


@pytest.mark.parametrize('value', [0, 2.5, '2', True])
def test_bad_divisors_are_refused(value):
    with pytest.raises(ValueError, match='cls_reduce must be a whole'):
        make(cls_reduce=value)
    with pytest.raises(ValueError, match='cls_reduce=3 does not divide'):
        make(cls_reduce=3)


def test_what_belongs_to_one_cls_token_is_refused():
    with pytest.raises(ValueError, match='has 3 summary tokens: use'):
        make(MambaRegScope, feature_reuse='mlp_with_cls')
    with pytest.raises(ValueError, match='has 3 summary tokens: leave it'):
        make(MambaRegScope, cls_position='ahead')


def test_a_map_needs_tokens_as_wide_as_what_the_exit_head_reads():
    head = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 3}
    wide = {'out_type': 'cls_token', 'exit_head': head}
    make(MambaRegScope, **wide)
    head['confidence'] = 'map'
    with pytest.raises(ValueError, match=r"set out_type='featmap', or leave"):
        make(MambaRegScope, **wide)
    make(MambaRegScope, **{**wide, 'out_type': 'featmap'})


def test_weights_of_vim_and_of_other_registers_are_refused():
    vim = VisionMamba(arch=ARCH, img_size=64)
    with pytest.raises(ValueError, match='of a ViM, and this Mamba-Reg'):
        make().load_state_dict(vim.state_dict())
    with pytest.raises(ValueError, match='summary: 2 .woven. against 3'):
        make().load_state_dict(make(num_registers=2).state_dict())


def test_weights_with_a_neck_are_refused_without_and_serve_maps():
    state = make(cls_reduce=4).state_dict()
    with pytest.raises(ValueError, match='build it with cls_reduce=4'):
        make().load_state_dict(dict(state), strict=False)
    with pytest.raises(ValueError, match='neck.weight: .4, 16.*expected .8'):
        make(cls_reduce=2).load_state_dict(dict(state), strict=False)
    result = make(**MAPS).load_state_dict(dict(state), strict=False)
    assert not result.missing_keys
    assert result.unexpected_keys == ['neck.weight', 'norm_neck.weight']


@pytest.mark.parametrize('described', [True, False])
@pytest.mark.parametrize('size', [64, 96])
def test_a_model_without_summary_tokens_takes_the_weights(described, size):
    source = make(cls_reduce=2)
    state = source.state_dict()
    if not described:
        # As the authors released them.
        del state['_extra_state']
    model = VisionMamba(
        arch=ARCH,
        img_size=size,
        summary_position='none',
        out_type='featmap',
    )
    model.load_state_dict(state)
    assert torch.equal(model.norm_f.weight, source.norm_f.weight)
    wanted = resize_pos_embed(source.pos_embed, (4, 4), model.grid, NO_SUMMARY)
    assert torch.equal(model.pos_embed, wanted)


@pytest.mark.parametrize('kind', ['RMeeTo', 'HiddenAlign'])
@pytest.mark.parametrize('registers', [1, 3])
def test_reductions_for_one_cls_token_are_refused(kind, registers):
    reduction = {'type': f'mmscope.{kind}'}
    with pytest.raises(ValueError, match=rf'{registers} summary .*\(woven'):
        make(num_registers=registers, reduction=reduction)
