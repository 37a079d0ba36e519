from __future__ import annotations

from functools import partial

import pytest
import torch

from mmscope.ops import selective_scan
from mmscope.ops.library import op
from mmscope.ops.reference import selective_scan_reference
from mmscope.testing import (
    assert_close,
    doubled,
    run_with_grads,
    scan_inputs,
)

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
triton_scan = partial(selective_scan, backend='triton')


def drawn(seqlen, dim=5, **sizes):
    sizes = dict(batch=1, d_state=3) | sizes
    return scan_inputs(seqlen=seqlen, dim=dim, **sizes)


def check(inputs, dtype=torch.float32, **options):
    """Compare output and all gradients with the float64 reference."""
    options.setdefault('delta_softplus', True)
    expected = run_with_grads(
        selective_scan_reference, doubled(inputs), **options
    )
    moved = {name: x.to(DEVICE) for name, x in inputs.items()}
    actual = run_with_grads(triton_scan, moved, **options)
    for name, value in expected.items():
        assert_close(name, actual[name].cpu(), value, dtype)
    for name, x in inputs.items():
        assert actual[name].dtype == x.dtype


@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize(('seqlen', 'batch'), [(1, 1), (3, 2), (9, 1)])
def test_any_length_matches_the_reference(seqlen, batch, reverse):
    check(drawn(seqlen, batch=batch), reverse=reverse)


@pytest.mark.parametrize('reverse', [False, True])
def test_idle_steps_match_the_reference(reverse):
    inputs = drawn(7)
    gaps = torch.tensor([[0, 3, 0, 1, 0, 0, 2]])
    options = dict(delta_softplus=True, reverse=reverse)
    expected = run_with_grads(
        selective_scan_reference, doubled(inputs), gaps=gaps, **options
    )
    moved = {name: x.to(DEVICE) for name, x in inputs.items()}
    gaps = gaps.to(DEVICE)
    actual = run_with_grads(triton_scan, moved, gaps=gaps, **options)
    for name, value in expected.items():
        assert_close(name, actual[name].cpu(), value, torch.float32)


@pytest.mark.parametrize('reverse', [False, True])
def test_cut_sequence_matches_the_reference(reverse, cut):
    check(drawn(10, dim=3), reverse=reverse)


@pytest.mark.parametrize('reverse', [False, True])
def test_cut_and_whole_sequence_give_one_result(reverse, cut, monkeypatch):
    from mmscope.ops.triton_kernels import launch

    inputs = {k: v.to(DEVICE) for k, v in drawn(11, dim=3).items()}
    options = dict(delta_softplus=True, reverse=reverse)
    in_spans = triton_scan(**inputs, **options)
    monkeypatch.setattr(launch, 'ENOUGH_PROGRAMS', 0)
    whole = triton_scan(**inputs, **options)
    assert_close('y', in_spans, whole, torch.float32)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_matches_the_reference(dtype):
    check(drawn(6, batch=2, dtype=dtype), dtype, reverse=True)


@pytest.mark.parametrize(
    ('absent', 'softplus'),
    [(('D',), True), (('z', 'delta_bias'), True), (('D', 'z'), False)],
)
def test_optional_inputs_may_be_absent(absent, softplus):
    inputs = drawn(3)
    if not softplus:
        for name in ('delta', 'delta_bias'):
            inputs[name] = inputs[name].abs()
    given = {k: v for k, v in inputs.items() if k not in absent}
    check(given, delta_softplus=softplus)


@pytest.mark.parametrize(('dim', 'd_state'), [(1, 1), (8, 16), (3, 19)])
def test_any_width_matches_the_reference(dim, d_state):
    # With seed 0 the one rate's gradient cancels to a thousandth of its terms.
    check(drawn(3, dim=dim, d_state=d_state, seed=3))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ('seqlen', 'dim', 'd_state', 'reverse'),
    [(9, 8, 4, False), (11, 4, 2, True), (8, 4, 16, True)],
)
def test_even_tiles_match_the_reference(seqlen, dim, d_state, reverse, dtype):
    # Nothing is masked; bfloat16 B and C are read two values a word.
    inputs = drawn(seqlen, dim=dim, d_state=d_state, dtype=dtype)
    wide = torch.cat([inputs['B'], inputs['B'], inputs['C']], -1)
    _, inputs['B'], inputs['C'] = wide.chunk(3, -1)
    check(inputs, dtype, reverse=reverse)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_released_tiles_match_the_reference(dtype, as_released):
    # Of this width bfloat16's sums over channels go to the matrix unit.
    check(drawn(6, dim=32, d_state=16, dtype=dtype), dtype)


@pytest.mark.parametrize('offset', [1, 2])
def test_words_that_do_not_fit_are_read_value_by_value(offset):
    inputs = drawn(5, dim=4, d_state=4, dtype=torch.bfloat16)
    for name in ('B', 'C', 'z'):
        x = inputs[name]
        wide = torch.nn.functional.pad(x, (offset, 0))
        inputs[name] = wide[..., offset:]
    check(inputs, torch.bfloat16)


def test_parts_of_wider_tensors_and_transposed_ones_are_read():
    inputs = drawn(3, batch=2)
    for name in ('u', 'z', 'B'):
        x = inputs[name]
        inputs[name] = torch.cat([x, x], -1)[..., : x.shape[-1]]
    for name in ('delta', 'C', 'A'):
        inputs[name] = inputs[name].mT.contiguous().mT
    check(inputs)


def test_expanded_tensors_are_read():
    inputs = drawn(3, batch=2)
    for name in ('u', 'B', 'C', 'z'):
        inputs[name] = inputs[name][:1].expand(2, -1, -1)
    check(inputs)


def test_autocast_changes_nothing_inside_an_op():
    # Without a gradient: the reference's own products would be cast.
    inputs = [x.to(DEVICE) for x in drawn(5, dtype=torch.bfloat16).values()]
    backward = op('selective_scan_triton_backward')
    results = []
    for enabled in (False, True):
        with torch.autocast(DEVICE, torch.bfloat16, enabled=enabled):
            scan = op('selective_scan_triton')
            out, states = scan(*inputs, True, False, True)
            grads = backward(out, *inputs, states, True, False)
        results.append((out, states, *grads))
    for plain, cast in zip(*results, strict=True):
        assert plain.dtype == cast.dtype
        assert torch.equal(plain, cast)


def test_runs_repeat_bit_for_bit():
    inputs = [x.to(DEVICE) for x in drawn(9, batch=2).values()]
    backward = op('selective_scan_triton_backward')
    results = []
    for _ in range(2):
        scan = op('selective_scan_triton')
        out, states = scan(*inputs, True, True, True)
        grads = backward(out, *inputs, states, True, True)
        results.append((out, *grads))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_extreme_step_sizes_are_survived():
    inputs = drawn(8, dim=2)
    extremes = torch.tensor([-1e4, -90.0, -20.0, 0.0, 20.0, 90.0, 1e4, 1.0])
    inputs['delta'] = extremes[None, :, None].expand(1, 8, 2).contiguous()
    check(inputs)


def test_small_step_sizes_keep_their_digits():
    # softplus(-12) = 6e-6: log(1 + x) in float32 has 2 of its digits.
    inputs = drawn(2)
    inputs['delta'] = inputs['delta'] * 0.1 - 12
    inputs['delta_bias'] = inputs['delta_bias'] * 0.1
    del inputs['D']
    check(inputs)


@pytest.mark.parametrize('empty', [dict(batch=0), dict(seqlen=0)])
def test_empty_input_gives_empty_output_and_zero_gradients(empty):
    inputs = drawn(**dict(seqlen=2) | empty)
    moved = {name: x.to(DEVICE) for name, x in inputs.items()}
    result = run_with_grads(triton_scan, moved, delta_softplus=True)
    assert result.pop('out').numel() == 0
    for name, grad in result.items():
        assert grad.shape == inputs[name].shape
        assert not grad.any(), name


@pytest.mark.parametrize('save', [False, True])
def test_fake_op_has_the_shapes_of_the_real_one(save, as_released):
    scan = op('selective_scan_triton')
    inputs = drawn(17, dim=2, dtype=torch.bfloat16).values()
    real = scan(*(x.to(DEVICE) for x in inputs), True, True, save)
    fake = scan(*(x.to('meta') for x in inputs), True, True, save)
    for r, f in zip(real, fake, strict=True):
        assert (r.shape, r.dtype, r.stride()) == (f.shape, f.dtype, f.stride())


@pytest.mark.parametrize('optional', [False, True])
def test_op_passes_opcheck(optional, as_released):
    inputs = drawn(2, dim=2, d_state=2)
    inputs = {k: v.to(DEVICE).requires_grad_() for k, v in inputs.items()}
    if not optional:
        inputs |= dict(D=None, z=None, delta_bias=None)
    torch.library.opcheck(
        op('selective_scan_triton'), (*inputs.values(), True, True, True)
    )


@pytest.mark.gpu
@pytest.mark.parametrize(
    ('batch', 'seqlen', 'dim'), [(8, 197, 768), (1, 2111, 384)]
)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_model_sizes_match_the_reference(
    batch, seqlen, dim, dtype, as_released
):
    if DEVICE == 'cpu':
        pytest.skip('needs a CUDA device')
    sizes = dict(batch=batch, dim=dim, d_state=16, dtype=dtype)
    check(drawn(seqlen, **sizes), dtype, reverse=True)
