from __future__ import annotations

from functools import partial

import pytest
import torch

from mmscope.ops import causal_conv1d
from mmscope.ops.library import op
from mmscope.ops.reference import causal_conv1d_reference
from mmscope.testing import (
    assert_close,
    conv_inputs,
    doubled,
    run_with_grads,
)

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
triton_conv = partial(causal_conv1d, backend='triton')


def check(inputs, dtype=torch.float32, **options):
    expected = run_with_grads(
        causal_conv1d_reference, doubled(inputs), **options
    )
    moved = {name: x.to(DEVICE) for name, x in inputs.items()}
    actual = run_with_grads(triton_conv, moved, **options)
    for name, value in expected.items():
        assert_close(name, actual[name].cpu(), value, dtype)


@pytest.mark.parametrize('seqlen', [1, 3, 4, 13])
@pytest.mark.parametrize('reverse', [False, True])
def test_any_length_matches_the_reference(seqlen, reverse):
    check(conv_inputs(seqlen=seqlen), reverse=reverse)


@pytest.mark.parametrize(('dim', 'width'), [(1, 1), (9, 2), (3, 7)])
def test_any_width_matches_the_reference(dim, width):
    check(conv_inputs(dim=dim, width=width, batch=1), reverse=True)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_matches_the_reference(dtype):
    check(conv_inputs(dtype=dtype, seqlen=20), dtype)


@pytest.mark.parametrize('activation', ['silu', None])
def test_bias_may_be_absent(activation):
    inputs = conv_inputs(batch=1)
    del inputs['bias']
    check(inputs, activation=activation)


def test_parts_of_wider_tensors_and_transposed_ones_are_read():
    inputs = conv_inputs(batch=1)
    x = inputs['x']
    inputs['weight'] = inputs['weight'].t().contiguous().t()
    check(inputs | dict(x=torch.cat([x, x], dim=-1)[..., :5]))
    check(inputs | dict(x=x.mT.contiguous().mT))
    every_other = inputs['bias'].repeat_interleave(2)
    every_other[1::2] = 7.0
    check(inputs | dict(bias=every_other[::2]))


@pytest.mark.parametrize('empty', [dict(batch=0), dict(seqlen=0)])
def test_empty_input_gives_empty_output_and_zero_gradients(empty):
    inputs = {k: v.to(DEVICE) for k, v in conv_inputs(**empty).items()}
    result = run_with_grads(triton_conv, inputs)
    assert result.pop('out').numel() == 0
    assert not any(grad.any() for grad in result.values())


def test_both_directions_at_once_are_two_convolutions():
    inputs = [conv_inputs(seqlen=6), conv_inputs(seqlen=6)]
    inputs[1]['weight'] = inputs[1]['weight'].flip(0)
    x = inputs[0].pop('x')
    del inputs[1]['x']
    stacked = dict(
        x=x,
        **{k: torch.stack([i[k] for i in inputs]) for k in inputs[0]},
    )

    def one_by_one(x, weight, bias):
        return torch.stack(
            [
                causal_conv1d_reference(x, w, b, reverse=bool(direction))
                for direction, (w, b) in enumerate(
                    zip(weight, bias, strict=True)
                )
            ]
        )

    both = op('bidirectional_conv1d_triton')
    moved = {k: v.to(DEVICE) for k, v in stacked.items()}
    actual = run_with_grads(
        lambda x, weight, bias: both(x, weight, bias, True), moved
    )
    expected = run_with_grads(one_by_one, doubled(stacked))
    for name, value in expected.items():
        assert_close(name, actual[name].cpu(), value, torch.float32)


@pytest.mark.parametrize(
    'name', ['causal_conv1d_triton', 'bidirectional_conv1d_triton']
)
def test_op_passes_opcheck(name):
    inputs = conv_inputs(batch=1, seqlen=2, dim=2)
    options = (True, False)
    if name.startswith('bidirectional'):
        inputs |= {k: torch.stack([inputs[k]] * 2) for k in ('weight', 'bias')}
        options = (True,)
    leaves = [x.to(DEVICE).requires_grad_() for x in inputs.values()]
    torch.library.opcheck(op(name), (*leaves, *options))
