from __future__ import annotations

from functools import partial

import pytest
import torch

from mmscope.ops import causal_conv1d
from mmscope.ops.reference import causal_conv1d_reference
from mmscope.testing import (
    assert_close,
    conv_inputs,
    doubled,
    run_with_grads,
)

cpu_conv = partial(causal_conv1d, backend='cpu')


def check_cpu(inputs, dtype=torch.float32, **options):
    expected = run_with_grads(
        causal_conv1d_reference, doubled(inputs), **options
    )
    actual = run_with_grads(cpu_conv, inputs, **options)
    for name, value in expected.items():
        assert_close(name, actual[name], value, dtype)


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_three_tokens_by_hand(backend):
    x = torch.tensor([[[1.0], [2.0], [4.0]]])
    weight = torch.tensor([[10.0, 1.0]])
    options = dict(activation=None, backend=backend)
    y = causal_conv1d(x, weight, torch.tensor([0.5]), **options)
    assert y.flatten().tolist() == [1.5, 12.5, 24.5]
    y = causal_conv1d(x, weight, **options, reverse=True)
    assert y.flatten().tolist() == [21.0, 42.0, 4.0]


@pytest.mark.parametrize('reverse', [False, True])
def test_reference_passes_gradcheck(reverse):
    values = [x.requires_grad_() for x in doubled(conv_inputs()).values()]
    assert torch.autograd.gradcheck(
        lambda *x: causal_conv1d(*x, reverse=reverse), values
    )


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_reverse_is_flip_conv_flip(backend):
    inputs = conv_inputs(seqlen=19)
    actual = causal_conv1d(**inputs, reverse=True, backend=backend)
    inputs['x'] = inputs['x'].flip(1)
    expected = causal_conv1d(**inputs, backend=backend).flip(1)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_no_token_sees_what_comes_after_it(backend):
    inputs = conv_inputs(seqlen=40)
    before = causal_conv1d(**inputs, backend=backend)
    inputs['x'][:, 20] += 1
    changed = causal_conv1d(**inputs, backend=backend) != before
    changed = changed.any(dim=2).any(dim=0)
    assert changed.nonzero().flatten().tolist() == list(range(20, 24))


@pytest.mark.parametrize('seqlen', [1, 3, 16, 17, 50, 197])
@pytest.mark.parametrize('reverse', [False, True])
def test_cpu_matches_reference_at_any_length(seqlen, reverse, isa):
    check_cpu(conv_inputs(seqlen=seqlen, dim=33), reverse=reverse)


@pytest.mark.parametrize('dim', [1, 5, 17, 96, 300])
@pytest.mark.parametrize('width', [1, 2, 4, 7])
def test_cpu_matches_reference_at_any_width(dim, width, isa):
    check_cpu(conv_inputs(seqlen=21, dim=dim, width=width))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_cpu_matches_reference_in_half_precision(dtype, isa):
    check_cpu(conv_inputs(seqlen=50, dim=33, dtype=dtype), dtype)


@pytest.mark.parametrize('activation', ['silu', None])
def test_cpu_matches_reference_without_bias(activation, isa):
    inputs = conv_inputs(seqlen=21, dim=20)
    del inputs['bias']
    check_cpu(inputs, activation=activation)


def test_cpu_takes_slices_and_transposed_inputs(isa):
    inputs = conv_inputs(seqlen=21, dim=20)
    x = inputs['x']
    inputs['weight'] = inputs['weight'].t().contiguous().t()
    check_cpu(inputs | dict(x=torch.cat([x, x], dim=-1)[..., :20]))
    check_cpu(inputs | dict(x=x.mT.contiguous().mT))


def test_released_weight_layout_is_refused_with_the_shape():
    inputs = conv_inputs()
    with pytest.raises(ValueError, match=r'\(dim, width\), got \(5, 1, 4\)'):
        causal_conv1d(inputs['x'], inputs['weight'].unsqueeze(1))


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
@pytest.mark.parametrize('empty', [dict(batch=0), dict(seqlen=0)])
def test_empty_input_gives_empty_output_and_zero_gradients(backend, empty):
    result = run_with_grads(
        partial(causal_conv1d, backend=backend), conv_inputs(**empty)
    )
    assert result['out'].numel() == 0
    assert not result['weight'].any()
    assert not result['bias'].any()


def test_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="'silu' or None, got 'relu'"):
        causal_conv1d(**conv_inputs(), activation='relu')
