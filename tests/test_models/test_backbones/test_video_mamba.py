"""VideoMamba and its scope: the released model, compiled and exported."""

from __future__ import annotations

import pytest
import released
import torch
from torch.utils._pytree import tree_flatten

from mmscope.models import (
    CoarseBranch,
    FineBranch,
    MambaScope,
    VideoMamba,
    VideoMambaScope,
    VisionMamba,
)
from mmscope.models.backbones.weights_info import KEY
from mmscope.ops import why_unavailable
from mmscope.registry import MODELS
from mmscope.testing import assert_close

RELEASED = {'videomamba_dev.npz': VideoMamba}
ARCH = {'embed_dims': 16, 'num_layers': 4}
TORCH = tuple(map(int, torch.__version__.split('.')[:2]))
needs_torch_2_4 = pytest.mark.skipif(
    TORCH < (2, 4), reason='operators of others need torch >= 2.4'
)


def make(family=VideoMamba, **options):
    torch.manual_seed(0)
    return family(**{'arch': ARCH, 'img_size': 64, **options})


def load(file, backend):
    """A released model with weights of its own, and what it computes."""
    config, values = released.read(file)
    if reason := why_unavailable(backend, torch.device('cpu')):
        pytest.skip(reason)
    family = RELEASED[file]
    return released.build(family, config, values, scan_backend=backend), values


@torch.no_grad()
@pytest.mark.parametrize('backend', ['reference', 'cpu'])
@pytest.mark.parametrize('file', RELEASED)
def test_it_computes_what_the_released_model_computes(file, backend):
    model, wanted = load(file, backend)
    middle = []
    block = model.layers[len(model.layers) // 2]
    block.register_forward_hook(lambda *call: middle.append(call[-1]))
    (features,) = model(wanted['image'])
    head = wanted['sd/head.weight'], wanted['sd/head.bias']
    logits = torch.nn.functional.linear(features, *head)
    assert released.relative(features, wanted['features']) < 1e-4
    assert released.relative(logits, wanted['logits']) < 1e-4
    tokens, residual = middle[0][:2]
    assert released.relative(tokens, wanted['mid/mixer']) < 1e-4
    assert released.relative(residual, wanted['mid/residual']) < 1e-4


@pytest.mark.parametrize(
    ('arch', 'count'),
    [
        ('tiny', 7_148_008),
        ('small', 25_796_584),
        ('middle', 74_217_448),
        ('base', 97_598_440),
    ],
)
def test_parameters_are_exact_with_the_1000_class_head(arch, count):
    with torch.device('meta'):
        model = VideoMamba(arch=arch)
    own = sum(p.numel() for p in model.parameters())
    assert own + 1000 * (model.summary_dims + 1) == count


def test_vim_does_not_know_the_middle_arch():
    with pytest.raises(ValueError, match='arch must be one of'):
        VisionMamba(arch='middle')


def test_both_are_registered_and_are_what_they_extend():
    for name, family in (
        ('VideoMamba', VideoMamba),
        ('VideoMambaScope', VideoMambaScope),
    ):
        assert MODELS.get(f'mmscope.{name}') is family
    assert issubclass(VideoMamba, VisionMamba)
    assert issubclass(VideoMambaScope, VideoMamba)
    assert not issubclass(VideoMambaScope, MambaScope)


def test_names_and_order_of_parameters_are_vim_s():
    for ours, vim in (
        (VideoMamba, VisionMamba),
        (VideoMambaScope, MambaScope),
    ):
        names = [name for name, _ in make(ours).named_parameters()]
        assert names == [name for name, _ in make(vim).named_parameters()]


@torch.no_grad()
def test_it_is_vim_but_for_a_place_and_a_factor():
    ours, vim = make().eval(), make(VisionMamba).eval()
    state = ours.state_dict()
    del state[KEY]
    # cls and its position stand first here, in the middle there.
    patches, summary = ours.summary_tokens.split(ours.pos_embed)
    state['pos_embed'] = vim.summary_tokens.insert(patches, summary)
    for name in state:
        if name.endswith('out_proj.weight'):
            state[name] = 2 * state[name]
    vim.load_state_dict(state)
    image = torch.randn(2, 3, 64, 64)
    ours.summary_tokens = vim.summary_tokens
    moved = ours.position_tables()['pos_embed']
    assert moved.summary.position == 'first'
    assert_close('features', ours(image)[0], vim(image)[0], torch.float32)


@torch.no_grad()
def test_refining_everything_reads_one_sequence_as_the_family_does():
    scope = make(VideoMambaScope, refine_ratio=1.0, feature_reuse='none')
    plain = make()
    plain.load_state_dict(scope.state_dict(), strict=False)
    image = torch.randn(2, 3, 64, 64)
    assert torch.equal(scope.eval()(image)[0], plain.eval()(image)[0])


@torch.no_grad()
def test_cls_stands_first_in_both_stages():
    scope = make(VideoMambaScope, refine_ratio=0.5).eval()
    stage = scope.forward_coarse(torch.randn(1, 3, 64, 64))
    layout = scope.layout(stage)
    assert layout.places == scope.summary_tokens.places(4) == (0,)
    behind = make(VideoMambaScope, cls_position='behind', refine_ratio=0.5)
    assert behind.layout(stage).places == (8,)


HOSTS = {
    'cls_token': {},
    'featmap': {'out_type': 'featmap', 'out_indices': (0, 3)},
}


@pytest.fixture(params=HOSTS)
def scope(request):
    return make(VideoMambaScope, **HOSTS[request.param]).eval()


@pytest.fixture
def imgs():
    return torch.randn(2, 3, 64, 80, generator=torch.manual_seed(1))


def assert_same(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        assert_close('output', a, b, torch.float32)


@needs_torch_2_4
@torch.no_grad()
def test_branches_of_its_scope_are_exported(scope, imgs, tmp_path):
    coarse, fine = CoarseBranch(scope), FineBranch(scope)
    output, state = coarse(imgs)
    torch.export.save(torch.export.export(coarse, (imgs,)), tmp_path / 'c.pt2')
    exported = torch.export.load(tmp_path / 'c.pt2').module()
    loaded_output, loaded_state = exported(imgs)
    assert_same(loaded_output, output)
    assert_same(loaded_state.values(), state.values())
    exported = torch.export.export(fine, (imgs, state)).module()
    for batch in (imgs, imgs.flip(-1)):
        state = coarse(batch)[1]
        assert_same(exported(batch, state), fine(batch, state))


@needs_torch_2_4
@torch.no_grad()
def test_it_is_exported_whole(imgs):
    model = make().eval()
    exported = torch.export.export(model, (imgs,)).module()
    assert_same(exported(imgs), model(imgs))


@needs_torch_2_4
@pytest.mark.parametrize('kind', ['plain', 'coarse', 'fine'])
@pytest.mark.parametrize('train', [False, True])
def test_it_compiles_without_a_graph_break(kind, train, imgs):
    model = make() if kind == 'plain' else make(VideoMambaScope)
    inputs = (imgs,)
    run = {'plain': lambda m: m, 'coarse': CoarseBranch, 'fine': FineBranch}
    run = run[kind](model.eval())
    if kind == 'fine':
        with torch.no_grad():
            inputs = (imgs, CoarseBranch(model)(imgs)[1])
    model.train(train)
    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend='aot_eager')
    results = []
    for call in (run, compiled):
        model.zero_grad()
        with torch.set_grad_enabled(train):
            outputs = tree_flatten(call(*inputs))[0]
        if train:
            sum(x.square().mean() for x in outputs).backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        results.append((outputs, grads))
    (expected, grads), (actual, compiled_grads) = results
    assert_same(actual, expected)
    assert len(grads) > (40 if train else -1)
    for a, b in zip(compiled_grads, grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
