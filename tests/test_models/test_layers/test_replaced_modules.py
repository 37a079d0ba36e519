"""Parts that somebody replaced, wrapped or hooked do what they do."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize, prune

from mmscope.models import MambaScope, VisionMamba
from mmscope.testing import assert_close

ARCH = {'embed_dims': 16, 'num_layers': 2}
# Everything whose weights an operator could read instead of calling it.
PARTS = [
    'layers.0.norm',
    'layers.1.mixer.conv1d',
    'layers.1.mixer.conv1d_b',
    'layers.1.mixer.x_proj',
    'layers.1.mixer.x_proj_b',
    'layers.1.mixer.dt_proj',
    'layers.1.mixer.dt_proj_b',
    'norm_f',
]
LINEARS = [part for part in PARTS if 'proj' in part]


def vim(seed=0):
    torch.manual_seed(seed)
    return VisionMamba(arch=ARCH, img_size=64).eval()


def replace(model, name, module):
    parent, _, last = name.rpartition('.')
    setattr(model.get_submodule(parent), last, module)


IMGS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))


class Subclass(nn.Module):
    """Calls what it wraps, and is no class that an operator knows."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize('part', PARTS)
@pytest.mark.parametrize('train', [False, True])
def test_a_wrapped_part_computes_what_it_computed_before(part, train):
    model, wrapped = vim().train(train), vim().train(train)
    replace(wrapped, part, Subclass(wrapped.get_submodule(part)))
    results = []
    for which in (model, wrapped):
        (cls,) = which(IMGS)
        cls.square().sum().backward()
        grads = {
            n.replace('.inner', ''): p.grad
            for n, p in which.named_parameters()
        }
        results.append((cls, grads))
    (expected, expected_grads), (actual, grads) = results
    assert_close('cls', actual, expected, torch.float32)
    for name, grad in expected_grads.items():
        torch.testing.assert_close(grads[name], grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('part', PARTS)
def test_a_hook_on_a_part_is_called_and_may_change_its_output(part):
    model = vim()
    (before,) = model(IMGS)
    seen = []
    handle = model.get_submodule(part).register_forward_hook(
        lambda module, args, out: seen.append(out.shape) or 0.5 * out
    )
    (changed,) = model(IMGS)
    handle.remove()
    assert len(seen) == 1
    assert not torch.allclose(changed, before, atol=1e-5)
    assert torch.equal(model(IMGS)[0], before)


@pytest.mark.parametrize('part', ['layers.1.mixer.x_proj', 'norm_f'])
def test_backward_hooks_of_parts_see_gradients(part):
    model, seen = vim(), []
    model.get_submodule(part).register_full_backward_hook(
        lambda module, grads, outs: seen.append(outs[0].abs().sum().item())
    )
    model(IMGS)[0].square().sum().backward()
    assert len(seen) == 1
    assert seen[0] > 0


class LowRank(nn.Module):
    """LoRA, arXiv:2106.09685, as adapters wrap a linear layer."""

    def __init__(self, base, rank=2):
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    @property
    def weight(self):
        return self.base.weight

    @property
    def bias(self):
        return self.base.bias

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


@pytest.mark.parametrize('part', LINEARS)
def test_an_adapter_counts_and_learns(part):
    model = vim()
    base = model.get_submodule(part)
    adapter = LowRank(base)
    replace(model, part, adapter)
    merged = copy.deepcopy(model)
    base = copy.deepcopy(base)
    with torch.no_grad():
        base.weight += adapter.up.weight @ adapter.down.weight
    replace(merged, part, base)
    (cls,) = model(IMGS)
    assert_close('cls', cls, merged(IMGS)[0], torch.float32)
    cls.square().sum().backward()
    assert adapter.up.weight.grad.abs().sum() > 0


def test_the_adapters_of_mmpretrain_reach_the_projections():
    models = pytest.importorskip('mmpretrain.models')
    backbone = {'type': 'mmscope.VisionMamba', 'arch': ARCH, 'img_size': 64}
    model = models.LoRAModel(
        module=backbone,
        alpha=1,
        rank=2,
        drop_rate=0.0,
        targets=[{'type': 'x_proj'}, {'type': 'dt_proj_b'}],
    ).eval()
    (before,) = model(IMGS)
    for name, param in model.named_parameters():
        if 'lora_up' in name:
            nn.init.normal_(param)
    (after,) = model(IMGS)
    assert not torch.allclose(after, before, atol=1e-4)


@pytest.mark.parametrize('part', LINEARS)
def test_a_pruned_model_is_the_one_that_its_weights_say(part):
    model = vim().train()
    prune.l1_unstructured(model.get_submodule(part), 'weight', amount=0.5)
    for _ in range(2):
        # The mask is applied anew in each forward.
        model(IMGS)[0].square().sum().backward()
    (pruned,) = model(IMGS)
    twin = vim(seed=1).train()
    prune.identity(twin.get_submodule(part), 'weight')
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(IMGS)[0], pruned)
    prune.remove(model.get_submodule(part), 'weight')
    assert_close('cls', model(IMGS)[0], pruned, torch.float32)


@pytest.mark.parametrize('part', LINEARS)
def test_a_parametrisation_counts(part):
    class Doubled(nn.Module):
        def forward(self, weight):
            return 2 * weight

    model, plain = vim(), vim()
    linear = model.get_submodule(part)
    parametrize.register_parametrization(linear, 'weight', Doubled())
    with torch.no_grad():
        plain.get_submodule(part).weight.mul_(2)
    assert_close('cls', model(IMGS)[0], plain(IMGS)[0], torch.float32)


def test_dynamically_quantised_linear_layers_run():
    model = vim()
    quantised = torch.ao.quantization.quantize_dynamic(
        copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8
    )
    kinds = {type(m).__module__ for m in quantised.layers[0].mixer.children()}
    assert any('quantized' in kind for kind in kinds)
    expected, actual = model(IMGS)[0], quantised(IMGS)[0]
    assert F.cosine_similarity(actual, expected).min() > 0.95
    assert not torch.equal(actual, expected)


def test_a_forward_that_a_library_put_on_the_object_runs():
    model = vim()
    x_proj = model.layers[0].mixer.x_proj
    calls, inner = [], x_proj.forward
    x_proj.forward = lambda x: calls.append(1) or inner(x)
    model(IMGS)
    assert calls == [1]


def test_scores_come_from_the_replaced_parts_too():
    def scope():
        torch.manual_seed(0)
        return MambaScope(arch=ARCH, img_size=64, score_layers=(1,)).eval()

    plain, wrapped = scope(), scope()
    replace(
        wrapped,
        'layers.1.mixer.x_proj',
        Subclass(wrapped.layers[1].mixer.x_proj),
    )
    for model in (plain, wrapped):
        model(IMGS)
    assert_close(
        'importance',
        wrapped.last_exit.importance,
        plain.last_exit.importance,
        torch.float32,
    )
