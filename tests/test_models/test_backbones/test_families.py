"""What every family does alike: its scope, compiled and exported."""

from __future__ import annotations

import pytest
import torch
from builders.branches import (
    assert_compiles,
    assert_exported,
    assert_same,
    needs_torch_2_4,
)

from mmscope.models import (
    CoarseBranch,
    FineBranch,
    MambaReg,
    MambaRegScope,
    TokenViT,
    VideoMamba,
    VideoMambaScope,
    ViTScope,
)
from mmscope.registry import MODELS
from mmscope.testing import assert_close

ARCH = {'embed_dims': 16, 'num_layers': 2}
# A family, its scope, and options of both.
FAMILIES = {
    'VideoMamba': (VideoMamba, VideoMambaScope, {}),
    'MambaReg': (MambaReg, MambaRegScope, {'num_registers': 3}),
    'TokenViT': (TokenViT, ViTScope, {'arch': {**ARCH, 'num_heads': 2}}),
}


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def make(family, scoped=False, **options):
    torch.manual_seed(0)
    plain, scope, own = FAMILIES[family]
    options = {'arch': ARCH, 'img_size': 64, **own, **options}
    return (scope if scoped else plain)(**options)


def test_both_are_registered(family):
    plain, scope, _ = FAMILIES[family]
    for kind in (plain, scope):
        assert MODELS.get(f'mmscope.{kind.__name__}') is kind
    assert issubclass(scope, plain)


@torch.no_grad()
def test_refining_everything_reads_one_sequence_as_the_family_does(family):
    scope = make(family, True, refine_ratio=1.0, feature_reuse='none')
    plain = make(family)
    plain.load_state_dict(scope.state_dict(), strict=False)
    image = torch.randn(2, 3, 64, 64)
    assert torch.equal(scope.eval()(image)[0], plain.eval()(image)[0])


@torch.no_grad()
def test_mean_and_tokens_are_those_after_the_final_norm(family):
    image = torch.randn(2, 3, 48, 64)
    raw = make(family, out_type='raw').eval()
    mean = make(family, out_type='avg_featmap').eval()
    mean.load_state_dict(raw.state_dict(), strict=False)
    (tokens,) = raw(image)
    encoded = raw.encode_images(image)
    assert torch.equal(tokens, encoded.tokens)
    patches, _ = raw.summary_tokens.split(tokens)
    assert patches.shape == (2, 12, 16)
    wanted = mean.norm_avg(patches.mean(1))
    assert_close('mean', mean(image)[0], wanted, torch.float32)


@pytest.mark.parametrize('out_type', ['avg_featmap', 'raw'])
def test_mean_and_tokens_are_of_one_stage_and_of_all_patches(out_type, family):
    with pytest.raises(ValueError, match='is for one stage'):
        make(family, True, out_type=out_type)
    reduction = {'type': 'mmscope.DyVM'}
    with pytest.raises(ValueError, match='a token reduction takes some out'):
        make(family, out_type=out_type, reduction=reduction)


def test_every_weight_of_a_mean_is_trained(family):
    model = make(family, out_type='avg_featmap')
    model(torch.randn(2, 3, 64, 64))[0].square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_another_out_type_is_refused(family):
    with pytest.raises(ValueError, match="out_type must be one of .*'raw'"):
        make(family, out_type='mean')


HOSTS = {
    'cls_token': {},
    'featmap': {'out_type': 'featmap', 'out_indices': (0, 1)},
}


@pytest.fixture(params=HOSTS)
def scope(request, family):
    return make(family, True, **HOSTS[request.param]).eval()


@pytest.fixture
def imgs():
    return torch.randn(2, 3, 64, 80, generator=torch.manual_seed(1))


@needs_torch_2_4
@torch.no_grad()
def test_branches_of_its_scope_are_exported(scope, imgs, tmp_path):
    assert_exported(scope, imgs, tmp_path / 'c.pt2')


@needs_torch_2_4
@torch.no_grad()
def test_it_is_exported_whole(family, imgs):
    model = make(family).eval()
    exported = torch.export.export(model, (imgs,)).module()
    assert_same(exported(imgs), model(imgs))


@needs_torch_2_4
@pytest.mark.parametrize('kind', ['plain', 'coarse', 'fine'])
@pytest.mark.parametrize('train', [False, True])
def test_it_compiles_without_a_graph_break(family, kind, train, imgs):
    model = make(family, kind != 'plain')
    inputs = (imgs,)
    run = {'plain': lambda m: m, 'coarse': CoarseBranch, 'fine': FineBranch}
    run = run[kind](model.eval())
    if kind == 'fine':
        with torch.no_grad():
            inputs = (imgs, CoarseBranch(model)(imgs)[1])
    # Every weight of a block has a gradient.
    least = len(list(model.layers.parameters())) + 1
    assert_compiles(model, run, inputs, train, least)
