"""Derivatives other than plain gradients: the true ones, or a refusal."""

import pytest
import torch
from torch.autograd import forward_ad

from mmscope.models import MambaScope, VisionMamba
from mmscope.ops import available_backends, causal_conv1d, selective_scan
from mmscope.ops.library import op

NAMES = ('u', 'delta', 'A', 'B', 'C', 'D', 'z', 'delta_bias')
HERE = [b for b in available_backends('cpu') if b != 'triton']
KERNELS = [b for b in HERE if b != 'reference']


def inputs(dtype=torch.float64, seqlen=7):
    torch.manual_seed(0)
    sequence, maps = (2, seqlen, 6), (2, seqlen, 3)
    shapes = (sequence, sequence, (6, 3), maps, maps, (6,), sequence, (6,))
    found = [torch.randn(shape, dtype=dtype) for shape in shapes]
    found[2] = -found[2].exp()
    return found


def scan(*args, **options):
    return selective_scan(*args, delta_softplus=True, **options)


def convolve(x, weight, bias, **options):
    return causal_conv1d(x, weight, bias, **options)


def conv_inputs(dtype=torch.float64):
    torch.manual_seed(0)
    return [torch.randn(s, dtype=dtype) for s in ((2, 7, 6), (6, 4), (6,))]


CASES = {'scan': (scan, inputs), 'conv': (convolve, conv_inputs)}


def assert_near(found, wanted, tolerance):
    """By the root mean square, relative to what is wanted."""
    assert found.shape == wanted.shape
    error = (found - wanted).square().mean().sqrt()
    assert error <= tolerance * wanted.square().mean().sqrt(), error


def difference(function, values, tangents, step=1e-6):
    pairs = list(zip(values, tangents, strict=True))
    above = function(*(value + step * tangent for value, tangent in pairs))
    below = function(*(value - step * tangent for value, tangent in pairs))
    return (above - below) / (2 * step)


@pytest.mark.parametrize('backend', ['auto', 'reference'])
@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize('case', CASES)
def test_the_tangent_is_that_of_finite_differences(case, backend, reverse):
    call, make = CASES[case]
    values = tuple(make())
    tangents = tuple(torch.randn_like(v) for v in values)

    def function(*args):
        return call(*args, backend=backend, reverse=reverse)

    wanted = difference(function, values, tangents)
    _, found = torch.func.jvp(function, values, tangents)
    assert_near(found, wanted, 1e-7)
    with forward_ad.dual_level():
        duals = map(forward_ad.make_dual, values, tangents)
        found = forward_ad.unpack_dual(function(*duals)).tangent
    assert_near(found, wanted, 1e-7)


@pytest.mark.parametrize('case', CASES)
def test_float32_has_tangents_too_whatever_backend_is_the_fastest(case):
    call, make = CASES[case]
    values = tuple(make())
    tangents = tuple(torch.randn_like(v) for v in values)
    _, wanted = torch.func.jvp(call, values, tangents)
    _, found = torch.func.jvp(
        call, *(tuple(x.float() for x in pair) for pair in (values, tangents))
    )
    assert found.dtype == torch.float32
    assert_near(found.double(), wanted, 1e-5)


@pytest.mark.parametrize('case', CASES)
def test_transforms_agree_with_autograd(case):
    call, make = CASES[case]
    values = [x.float().requires_grad_() for x in make()]

    def loss(first):
        return call(first, *values[1:]).square().sum()

    (wanted,) = torch.autograd.grad(loss(values[0]), values[0])
    first = values[0].detach()
    assert_near(torch.func.grad(loss)(first), wanted, 1e-4)
    for jacobian in (torch.func.jacfwd, torch.func.jacrev):
        assert_near(jacobian(loss)(first), wanted, 1e-4)


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('case', CASES)
def test_vmap_is_a_loop_over_its_axis(case):
    call, make = CASES[case]
    values = [x.float() for x in make()]
    several = torch.stack([values[0], 2 * values[0], -values[0]])

    def function(first):
        return call(first, *values[1:])

    wanted = torch.stack([function(one) for one in several])
    assert_near(torch.vmap(function)(several), wanted, 1e-5)


@pytest.mark.parametrize('backend', HERE)
@pytest.mark.parametrize('case', CASES)
def test_second_derivatives_are_those_of_the_reference(case, backend):
    call, make = CASES[case]
    dtype = torch.float64 if backend == 'reference' else torch.float32
    values = [x.to(dtype).requires_grad_() for x in make()]

    def product(name):
        out = call(*values, backend=name)
        first = torch.autograd.grad(
            out.pow(2).sum(), values, create_graph=True
        )
        total = sum((x * x.detach().flip(-1).cos()).sum() for x in first)
        return torch.autograd.grad(total, values)

    pairs = zip(product(backend), product('reference'), strict=True)
    for found, wanted in pairs:
        assert wanted.abs().sum() > 0
        assert_near(found, wanted, 1e-4)


def test_second_derivatives_pass_gradgradcheck():
    values = [x[:1, :3] if x.ndim == 3 else x for x in inputs()]
    values = [x.requires_grad_() for x in values]
    assert torch.autograd.gradgradcheck(
        lambda *args: scan(*args, backend='reference'), values
    )


@pytest.mark.parametrize('backend', KERNELS)
@pytest.mark.parametrize('case', CASES)
def test_a_backend_without_them_is_refused_not_swapped(case, backend):
    call, make = CASES[case]
    values = tuple(x.float() for x in make())
    with pytest.raises(RuntimeError, match=f"'{backend}' cannot run.*forward"):
        torch.func.jvp(lambda *a: call(*a, backend=backend), values, values)


@pytest.mark.parametrize('backend', HERE)
def test_an_operator_called_by_itself_refuses_tangents(backend):
    values = [x.float() for x in inputs()]
    with forward_ad.dual_level():
        values[0] = forward_ad.make_dual(values[0], torch.ones_like(values[0]))
        with pytest.raises(RuntimeError, match='no forward-mode derivative'):
            op(f'selective_scan_{backend}')(*values, True, False, False)


@pytest.mark.parametrize('kind', [VisionMamba, MambaScope])
@pytest.mark.parametrize('trains', [True, False])
def test_a_backbone_has_true_tangents(kind, trains):
    arch = {'embed_dims': 16, 'num_layers': 2}
    torch.manual_seed(0)
    model = kind(arch=arch, img_size=64).double().eval()
    model.requires_grad_(trains)
    x, t = torch.randn(2, 1, 3, 64, 64, dtype=torch.float64).unbind()

    def function(images):
        return model(images)[0]

    # Norms are float32 in any model: a large step.
    with torch.no_grad():
        wanted = difference(function, (x,), (t,), 1e-3)
    _, found = torch.func.jvp(function, (x,), (t,))
    assert_near(found, wanted, 1e-3)
    model.float()
    _, rough = torch.func.jvp(function, (x.float(),), (t.float(),))
    assert_near(rough.double(), wanted, 1e-3)


@pytest.mark.parametrize('kind', [VisionMamba, MambaScope])
def test_training_follows_inference_mode(kind):
    model = kind(arch={'embed_dims': 16, 'num_layers': 2}, img_size=64)
    for size in ((64, 64), (96, 64)):
        imgs = torch.randn(1, 3, *size)
        with torch.inference_mode():
            model.eval()(imgs)
        model.train()(imgs)[-1].sum().backward()
    assert model.patch_embed.proj.weight.grad.abs().sum() > 0


def test_the_reference_stays_exact_inside_autocast():
    values = [x.float() for x in inputs(seqlen=33)]
    wanted = scan(*values, backend='reference')
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = scan(*values, backend='reference')
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)
