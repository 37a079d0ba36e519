"""TokenViT and its scope: mmpretrain's DeiT, and attention as a score."""

from __future__ import annotations

import pytest
import torch

from mmscope.analysis import stage_costs
from mmscope.models import TokenViT, ViTScope
from mmscope.models.backbones.weights_info import KEY

ARCH = {'embed_dims': 16, 'num_layers': 4, 'num_heads': 2}
MAPS = {'out_type': 'featmap', 'out_indices': (1, 3)}
PUBLISHED = {
    'tiny': (5_717_416, 1.254),
    'small': (22_050_664, 4.599),
    'base': (86_567_656, 17.564),
}


def make(family=TokenViT, **options):
    torch.manual_seed(0)
    return family(**{'arch': ARCH, 'img_size': 64, **options}).eval()


def mmpretrain_vit(arch, **options):
    models = pytest.importorskip(
        'mmpretrain.models', reason='needs mmpretrain'
    )
    torch.manual_seed(0)
    model = models.VisionTransformer(arch, **options)
    # Its own initial values leave cls and positions at 0.
    for param in model.parameters():
        param.data += 0.02 * torch.randn_like(param)
    model.train(False)
    return model


@torch.no_grad()
@pytest.mark.parametrize(
    'options',
    [
        {},
        {'out_type': 'featmap', 'out_indices': [2, 5, 8, 11]},
        {'out_type': 'avg_featmap'},
        {'out_type': 'raw'},
    ],
    ids=['cls', 'maps', 'mean', 'tokens'],
)
def test_deit_small_is_that_of_mmpretrain(options):
    theirs = mmpretrain_vit('deit-small', **options)
    ours = TokenViT('small', **options).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    imgs = torch.randn(1, 3, 224, 224)
    for a, b in zip(ours(imgs), theirs(imgs), strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


@torch.no_grad()
def test_weights_of_mmpretrain_load_at_another_size():
    arch = {**ARCH, 'feedforward_channels': 48}
    theirs = mmpretrain_vit(arch, img_size=64)
    ours = make(arch=arch, img_size=96)
    state = {f'backbone.{k}': v for k, v in theirs.state_dict().items()}
    host = torch.nn.ModuleDict({'backbone': ours})
    result = host.load_state_dict(state, strict=True)
    assert not result.missing_keys
    assert not result.unexpected_keys
    imgs = torch.randn(1, 3, 64, 64)
    assert (ours(imgs)[0] - theirs(imgs)[0]).abs().max() > 1e-3
    same = make(arch=arch)
    same.load_state_dict(theirs.state_dict())
    assert (same(imgs)[0] - theirs(imgs)[0]).abs().max() < 1e-5


def test_training_drops_the_paths_that_mmpretrain_drops():
    theirs = mmpretrain_vit('deit-tiny', drop_path_rate=0.3)
    ours = TokenViT('tiny', drop_path_rate=0.3)
    followers = [*ours.layers[1:], ours]
    for block, after, other in zip(
        ours.layers, followers, theirs.layers, strict=True
    ):
        rate = getattr(other.attn.out_drop, 'drop_prob', 0.0)
        assert block.attn_drop_path.drop_prob == pytest.approx(rate)
        assert after.drop_path.drop_prob == pytest.approx(rate)


def test_what_attention_adds_is_dropped_with_its_own_rate():
    model = make().train()
    for block in model.layers:
        block.attn_drop_path.drop_prob = 1 - 1e-6
    (vector,) = model(torch.randn(2, 3, 64, 64))
    vector.square().sum().backward()
    assert all(b.attn.proj.weight.grad.abs().max() == 0 for b in model.layers)
    grads = [b.ffn.layers[1].weight.grad for b in model.layers]
    assert all(grad.abs().max() > 0 for grad in grads)


@pytest.mark.parametrize('arch', PUBLISHED)
def test_parameters_and_costs_are_exact_with_the_1000_class_head(arch):
    with torch.device('meta'):
        model = TokenViT(arch)
    count, gmacs = PUBLISHED[arch]
    own = sum(p.numel() for p in model.parameters())
    assert own + 1000 * (model.summary_dims + 1) == count
    costs = {
        stage_costs(model, (14, 14), convention).fine
        for convention in ('paper', 'exact')
    }
    # Attention has no directions.
    (cost,) = costs
    assert round((cost + 1000 * model.summary_dims) / 1e9, 3) == gmacs


@torch.no_grad()
def test_importance_is_the_attention_of_cls():
    scope = make(ViTScope, score_layers=(2,), score_momentum=0.0)
    for param in scope.layers[2].attn.qkv.parameters():
        param.normal_()
    seen = []
    scope.layers[2].ln1.register_forward_hook(
        lambda *call: seen.append(call[-1])
    )
    stage = scope.forward_coarse(torch.randn(2, 3, 64, 64))
    # Written out: one row of each head's softmax.
    query, key, _ = scope.layers[2].attn.qkv(seen[0]).split(16, -1)
    rows = []
    for head in (slice(0, 8), slice(8, 16)):
        likeness = query[:, :1, head] @ key[..., head].mT / 8**0.5
        rows.append(likeness.softmax(-1)[:, 0])
    wanted = (rows[0] + rows[1]) / 2
    assert torch.allclose(stage.importance, wanted[:, 1:], rtol=1e-4)
    assert stage.importance.std() > 1e-3


def test_another_score_is_refused():
    with pytest.raises(ValueError, match='cls_attention'):
        make(ViTScope, score_metric='max_norm')


@torch.no_grad()
def test_cls_stands_first_among_the_fine_tokens():
    scope = make(ViTScope, refine_ratio=0.5)
    stage = scope.forward_coarse(torch.randn(1, 3, 64, 64))
    assert scope.layout(stage).places == (0,)


@torch.no_grad()
def test_cls_can_be_left_out_for_maps():
    model = make(summary_position='none', **MAPS)
    assert 'cls_token' not in model.state_dict()
    state = make().state_dict()
    model.load_state_dict(state)
    assert torch.equal(model.pos_embed, state['pos_embed'][:, 1:])
    del state[KEY]
    model.load_state_dict(state)
    assert torch.equal(model.pos_embed, state['pos_embed'][:, 1:])
    assert model(torch.randn(1, 3, 40, 64))[1].shape == (1, 16, 3, 4)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_other_precisions_keep_the_stream_in_float32_at_least(dtype):
    model = make().to(dtype)
    (vector,) = model(torch.randn(1, 3, 64, 64, dtype=dtype))
    assert vector.dtype == dtype
    assert vector.isfinite().all()
    record = model.encode_images(torch.randn(1, 3, 64, 64, dtype=dtype))
    wide = torch.promote_types(dtype, torch.float32)
    assert record.sequence.residual.dtype == wide


def test_what_decays_is_no_norm_and_no_embedding():
    names = make().no_decay_names()
    assert {'cls_token', 'pos_embed', 'norm_f.weight'} <= names
    assert 'layers.3.ln2.weight' in names
    assert not [name for name in names if 'attn' in name or 'ffn' in name]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'arch': 'huge'}, "arch must be one of .'tiny'"),
        ({'arch': {**ARCH, 'd_state': 16}}, 'num_heads, feedforward'),
        ({'arch': {**ARCH, 'num_heads': 3}}, 'num_heads=3 does not divide'),
        ({'summary_position': 'middle'}, 'summary_position must be one of'),
        ({'summary_position': 'none'}, 'needs a summary token'),
        ({'reduction': {'type': 'mmscope.RMeeTo'}}, "got ViT with 'attention"),
        ({'reduction': {'type': 'mmscope.DyVM'}}, 'TokenViT has blocks of'),
        ({'reduction': {'type': 'mmscope.HiddenAlign'}}, 'got ViT with'),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_weights_of_a_mamba_are_refused():
    from mmscope.models import VisionMamba

    vim = VisionMamba(arch={'embed_dims': 16, 'num_layers': 4}, img_size=64)
    with pytest.raises(ValueError, match='of a ViM, and this ViT'):
        make().load_state_dict(vim.state_dict())
