from __future__ import annotations

import functools
import math
from functools import partial

import pytest
import torch

from mmscope.ops import selective_scan
from mmscope.ops.reference import scan_loop, selective_scan_reference
from mmscope.testing import (
    assert_close,
    doubled,
    run_with_grads,
    scan_inputs,
)

SEQUENCES = ('u', 'delta', 'B', 'C', 'z')
cpu_scan = partial(selective_scan, backend='cpu')


def check_cpu(inputs, dtype=torch.float32, **options):
    """Compare output and all gradients with the float64 reference."""
    # A negative step would let the state grow without bound.
    options.setdefault('delta_softplus', True)
    expected = run_with_grads(
        selective_scan_reference, doubled(inputs), **options
    )
    actual = run_with_grads(cpu_scan, inputs, **options)
    for name, value in expected.items():
        assert_close(name, actual[name], value, dtype)
    for name, x in inputs.items():
        assert actual[name].dtype == x.dtype


# --------------------------------------------------------- the truth itself


@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize(
    'scan', [selective_scan_reference, partial(selective_scan, backend='auto')]
)
def test_reference_passes_gradcheck(scan, reverse):
    inputs = doubled(scan_inputs(batch=2, seqlen=4, dim=3, d_state=2))
    values = [x.requires_grad_() for x in inputs.values()]
    assert torch.autograd.gradcheck(
        lambda *x: scan(*x, delta_softplus=True, reverse=reverse), values
    )


def test_reference_passes_gradcheck_on_non_contiguous_inputs():
    inputs = doubled(scan_inputs(batch=2, seqlen=3, dim=4, d_state=2))
    values = [
        torch.stack([x, x], dim=-1)[..., 0].requires_grad_()
        for x in inputs.values()
    ]
    assert not values[0].is_contiguous()
    assert torch.autograd.gradcheck(
        partial(selective_scan, backend='reference'), values
    )


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_three_steps_by_hand(backend):
    # One channel, one state: h = 1/2 h + u B per step of size 1, y = C h.
    column = torch.tensor
    y = selective_scan(
        u=column([[[1.0], [2.0], [4.0]]]),
        delta=torch.ones(1, 3, 1),
        A=column([[-math.log(2.0)]]),
        B=column([[[1.0], [3.0], [0.5]]]),
        C=column([[[2.0], [1.0], [4.0]]]),
        D=column([10.0]),
        backend=backend,
    )
    # h = 1; 1/2 + 6 = 6.5; 3.25 + 2 = 5.25
    expected = column([[[2.0 + 10], [6.5 + 20], [21.0 + 40]]])
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_gate_bias_and_softplus_by_hand(backend):
    # softplus(-1 + 1) = log 2, so the state is log(2) * 3 * 2; silu(1) gates.
    one = torch.ones(1, 1, 1)
    y = selective_scan(
        3 * one,
        -one,
        -torch.ones(1, 1),
        2 * one,
        one,
        z=one,
        delta_bias=torch.ones(1),
        delta_softplus=True,
        backend=backend,
    )
    silu = 1 / (1 + math.exp(-1))
    torch.testing.assert_close(y, 6 * math.log(2) * silu * one)


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_reverse_is_flip_scan_flip(backend):
    inputs = scan_inputs(seqlen=37)
    flipped = {
        name: x.flip(1) if name in SEQUENCES else x
        for name, x in inputs.items()
    }
    actual = selective_scan(**inputs, reverse=True, backend=backend)
    expected = selective_scan(**flipped, backend=backend).flip(1)
    torch.testing.assert_close(actual, expected)


def test_two_half_scans_with_carried_state_are_one():
    inputs = doubled(scan_inputs(seqlen=11))
    u, delta, A, B, C = (
        inputs[name] for name in ('u', 'delta', 'A', 'B', 'C')
    )
    whole, last = scan_loop(u, delta.abs(), A, B, C)
    first = [x[:, :5] for x in (u, delta.abs(), B, C)]
    second = [x[:, 5:] for x in (u, delta.abs(), B, C)]
    y1, state = scan_loop(first[0], first[1], A, first[2], first[3])
    y2, state = scan_loop(second[0], second[1], A, second[2], second[3], state)
    torch.testing.assert_close(torch.cat([y1, y2], dim=1), whole)
    torch.testing.assert_close(state, last)


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_zero_decay_is_a_running_sum(backend):
    u = scan_inputs(seqlen=50)['u']
    ones = torch.ones(2, 50, 1)
    y = selective_scan(
        u, torch.ones_like(u), torch.zeros(5, 1), ones, ones, backend=backend
    )
    torch.testing.assert_close(y, u.cumsum(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('rate', [-1e4, -1e9, -math.inf])
@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_very_negative_decay_forgets(backend, rate):
    u = scan_inputs(seqlen=50)['u']
    ones = torch.ones(2, 50, 1)
    rates = torch.full((5, 1), rate)
    y = selective_scan(
        u, torch.ones_like(u), rates, ones, 2 * ones, backend=backend
    )
    torch.testing.assert_close(y, 2 * u)


# ----------------------------------------------------------- the C++ kernels


@functools.cache
def drawn(dtype, reverse, **sizes):
    """Return inputs and the truth, once for all instruction sets."""
    inputs = scan_inputs(dtype=dtype, **sizes)
    options = dict(delta_softplus=True, reverse=reverse)
    return inputs, run_with_grads(
        selective_scan_reference, doubled(inputs), **options
    )


def check_drawn(dtype, reverse, **sizes):
    inputs, expected = drawn(dtype, reverse, **sizes)
    actual = run_with_grads(
        cpu_scan, inputs, delta_softplus=True, reverse=reverse
    )
    for name, value in expected.items():
        assert_close(name, actual[name], value, dtype)


@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize('seqlen', [1, 7, 49, 50, 63, 65, 197])
def test_cpu_matches_reference_at_any_length(seqlen, reverse, isa):
    check_drawn(torch.float32, reverse, seqlen=seqlen, dim=33, d_state=16)


@pytest.mark.parametrize('dim', [1, 5, 17, 32, 33, 96, 300])
@pytest.mark.parametrize('d_state', [1, 16, 19])
def test_cpu_matches_reference_at_any_width(dim, d_state, isa):
    # With seed 0 the one rate's gradient cancels to a thousandth of its terms.
    sizes = dict(seqlen=21, dim=dim, d_state=d_state, seed=3)
    check_drawn(torch.float32, False, **sizes)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize('seqlen', [1, 50, 65])
def test_cpu_matches_reference_in_half_precision(dtype, seqlen, reverse, isa):
    check_drawn(dtype, reverse, seqlen=seqlen, dim=33, d_state=16)


@pytest.mark.parametrize('softplus', [False, True])
@pytest.mark.parametrize(
    'absent',
    [('D',), ('z',), ('delta_bias',), ('D', 'z', 'delta_bias')],
    ids='+'.join,
)
def test_cpu_matches_reference_without_optional_inputs(absent, softplus, isa):
    inputs = scan_inputs(seqlen=19, dim=20)
    if not softplus:
        for name in ('delta', 'delta_bias'):
            inputs[name] = inputs[name].abs()
    given = {k: v for k, v in inputs.items() if k not in absent}
    check_cpu(given, delta_softplus=softplus)


def cut_from_wider(x):
    """Return x as ``chunk`` or ``split`` of a wider tensor would give it."""
    return torch.cat([x, x], dim=-1)[..., : x.shape[-1]]


def channels_last_transposed(x):
    return x.mT.contiguous().mT if x.dim() > 1 else x


def expanded_over_tokens(x):
    return x[:, :1].expand_as(x) if x.dim() > 2 else x


@pytest.mark.parametrize(
    'layout', [cut_from_wider, channels_last_transposed, expanded_over_tokens]
)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_cpu_takes_any_layout(layout, dtype, isa):
    inputs = scan_inputs(seqlen=19, dim=20, dtype=dtype)
    check_cpu({name: layout(x) for name, x in inputs.items()}, dtype)


def test_cpu_takes_a_non_contiguous_gradient(isa):
    inputs = scan_inputs(seqlen=19, dim=20)
    u = inputs.pop('u')

    def grad_of(scan, dtype):
        x = u.to(dtype).requires_grad_()
        others = {k: v.to(dtype) for k, v in inputs.items()}
        y = scan(x, **others, delta_softplus=True)
        y.mT.contiguous().square().sum().backward()
        return x.grad

    expected = grad_of(selective_scan_reference, torch.float64)
    assert_close('u', grad_of(cpu_scan, torch.float32), expected, u.dtype)


def test_cpu_result_does_not_depend_on_threads_or_batch(isa):
    inputs = scan_inputs(batch=3, seqlen=50, dim=200, d_state=16)
    results = []
    before = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append(run_with_grads(cpu_scan, inputs, delta_softplus=True))
    torch.set_num_threads(before)
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name
    alone = {k: v[1:2] if k in SEQUENCES else v for k, v in inputs.items()}
    y = cpu_scan(**alone, delta_softplus=True)
    assert torch.equal(y, results[0]['out'][1:2])


def test_cpu_survives_extreme_step_sizes(isa):
    inputs = scan_inputs(seqlen=9, dim=20)
    extremes = torch.tensor([-1e4, -90.0, -20.0, 0.0, 20.0, 90.0, 1e4, 0, 1])
    inputs['delta'] = extremes[None, :, None].expand(2, 9, 20).contiguous()
    check_cpu(inputs)


def test_cpu_spreads_nan_like_the_reference(isa):
    inputs = scan_inputs(seqlen=9, dim=20)
    inputs['u'][0, 4, 3] = math.nan
    inputs['delta'][1, 2, 7] = math.nan
    actual = cpu_scan(**inputs, delta_softplus=True)
    expected = selective_scan_reference(**inputs, delta_softplus=True)
    assert expected.isnan().sum() == 5 + 7
    assert torch.equal(actual.isnan(), expected.isnan())


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
@pytest.mark.parametrize('empty', [dict(batch=0), dict(seqlen=0)])
def test_empty_input_gives_empty_output_and_zero_gradients(backend, empty):
    inputs = scan_inputs(**empty)
    result = run_with_grads(
        partial(selective_scan, backend=backend), inputs, delta_softplus=True
    )
    assert result.pop('out').numel() == 0
    for name, grad in result.items():
        assert grad.shape == inputs[name].shape
        assert not grad.any(), name


def test_only_wanted_gradients_are_returned(isa):
    inputs = scan_inputs()
    inputs['B'].requires_grad_()
    cpu_scan(**inputs).sum().backward()
    assert inputs['B'].grad is not None
    assert inputs['u'].grad is None
