from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from mmscope import ops
from mmscope.ops import add_rms_norm, composed, fused_cpu
from mmscope.ops.fused_cpu import can_fuse, fused_inner
from mmscope.ops.library import op
from mmscope.testing import assert_close, doubled

sys.path.insert(0, str(Path(__file__).parent))
from inner_inputs import inner_inputs, run_inner

SMALL = dict(seqlen=7, batch=2)


def operands(inputs):
    """The op's own arguments: x, z, and the weights of each direction."""
    parts = [
        tuple(v for k, v in inputs.items() if k.startswith(prefix))
        for prefix in ('f_', 'b_')
    ]
    return inputs['x'], inputs['z'], *parts


def check_inner(inputs, dtype=torch.float32):
    for returns in ('y', 'scores'):
        expected = run_inner(
            **doubled(inputs), backend='reference', returns=returns
        )
        actual = run_inner(**inputs, backend='cpu', returns=returns)
        assert_close(returns, actual, expected, dtype)


@pytest.fixture
def calls(monkeypatch):
    """Count the calls of the fused operator."""
    seen = []

    def counted(*args):
        seen.append(args)
        return fused_inner(*args)

    monkeypatch.setattr('mmscope.ops.bidirectional.fused_inner', counted)
    return seen


@pytest.mark.parametrize('seqlen', [1, 3, 16, 17, 50, 197])
def test_output_and_scores_match_the_reference_at_any_length(
    seqlen, isa, calls
):
    check_inner(inner_inputs(seqlen, batch=2, dim=33))
    assert len(calls) == 2


@pytest.mark.parametrize('dim', [1, 5, 17, 96, 300])
@pytest.mark.parametrize('d_state', [1, 16, 19])
def test_output_and_scores_match_the_reference_at_any_width(dim, d_state, isa):
    check_inner(inner_inputs(21, dim=dim, d_state=d_state))


def test_bfloat16_is_as_good_as_its_digits(isa):
    inputs = inner_inputs(50, dim=33, dtype=torch.bfloat16)
    check_inner(inputs, torch.bfloat16)


def test_bfloat16_is_rounded_once_at_the_end(isa):
    inputs = inner_inputs(40, dim=20, dtype=torch.bfloat16)
    exact = {name: x.float() for name, x in inputs.items()}
    expected = run_inner(**exact, backend='cpu').bfloat16()
    assert torch.equal(run_inner(**inputs, backend='cpu'), expected)


@pytest.mark.parametrize('width', [1, 2, 3, 4, 7])
@pytest.mark.parametrize('dt_rank', [1, 4, 9])
def test_any_window_and_rank_match_the_reference(width, dt_rank, isa):
    check_inner(inner_inputs(19, dim=17, width=width, dt_rank=dt_rank))


def test_sizes_of_a_small_vim_match_the_reference(isa):
    check_inner(inner_inputs(50, dim=768, d_state=16, dt_rank=24))


def test_decays_close_to_one_do_not_drift(isa):
    # 4000 tokens of memory: an exponential that is off by one unit in the
    # last place near 1 would be off by 2e-4 in the end.
    inputs = inner_inputs(4000, dim=16, d_state=2)
    for prefix in ('f_', 'b_'):
        inputs[prefix + 'A_log'].fill_(-12)
    check_inner(inputs)


def test_extreme_step_sizes_are_survived(isa):
    for bias in (-90, 20, 90, 1e4):
        inputs = inner_inputs(9)
        inputs['f_dt_bias'].fill_(bias)
        check_inner(inputs)


def test_absent_channels_never_are_the_largest(isa):
    # Fewer channels than lanes, and every output below zero.
    inputs = inner_inputs(**SMALL, dim=3)
    for prefix in ('f_', 'b_'):
        inputs[prefix + 'x_proj'].zero_()
        inputs[prefix + 'conv_bias'].fill_(9.0)
        inputs[prefix + 'D'].fill_(-1.0)
    _, largest = fused_inner(*operands(inputs), True)
    assert (largest < -1).all()


def test_not_a_number_stays_in_the_scores(isa):
    inputs = inner_inputs(**SMALL, dim=20)
    inputs['x'][1, 3, 7] = torch.nan
    _, largest = fused_inner(*operands(inputs), True)
    broken = largest.isnan()
    assert not broken[:, 0].any()
    # The convolution looks back: each direction breaks on its own side.
    assert broken[0, 1].tolist() == [False] * 3 + [True] * 4
    assert broken[1, 1].tolist() == [True] * 4 + [False] * 3


@pytest.mark.parametrize('batch', [1, 2, 3, 5])
def test_number_of_threads_changes_nothing(batch, isa):
    arguments = operands(inner_inputs(70, batch=batch, dim=100))
    one = fused_inner(*arguments, True)
    torch.set_num_threads(2)
    two = fused_inner(*arguments, True)
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a, b)


def test_callers_in_threads_of_their_own_do_not_meet():
    torch.set_num_threads(2)
    inputs = inner_inputs(60, batch=4, dim=96)
    expected = run_inner(**inputs, backend='cpu')

    def run(_):
        with torch.no_grad():
            return run_inner(**inputs, backend='cpu')

    with ThreadPoolExecutor(4) as pool:
        for actual in pool.map(run, range(80)):
            assert torch.equal(actual, expected)


def test_parts_of_wider_tensors_and_transposed_ones_are_read(isa):
    inputs = inner_inputs(**SMALL)
    for name, x in inputs.items():
        inputs[name] = x.mT.contiguous().mT if x.dim() > 1 else x
    check_inner(inputs)


@pytest.mark.parametrize('empty', [dict(batch=0), dict(seqlen=0)])
def test_no_tokens_give_no_output(empty):
    inputs = inner_inputs(**SMALL | empty)
    out, largest = fused_inner(*operands(inputs), True)
    assert out.shape == inputs['z'].shape
    assert largest.shape == (2, *inputs['z'].shape[:2])


def test_gradients_are_left_to_the_composed_scans(calls):
    inputs = {k: v.requires_grad_() for k, v in inner_inputs(5).items()}
    assert run_inner(**inputs, backend='cpu').requires_grad
    assert not calls
    with torch.no_grad():
        run_inner(**inputs, backend='cpu')
    assert len(calls) == 1


def test_a_score_of_ones_own_is_composed(calls):
    inputs = inner_inputs(5)
    run_inner(**inputs, backend='cpu', score=lambda y_f, y_b, z: z.amax(-1))
    assert not calls


def test_double_precision_keeps_its_digits():
    inputs = doubled(inner_inputs(5))
    assert not can_fuse('cpu', *inputs.values())
    assert run_inner(**inputs, backend='auto').dtype == torch.float64


def test_those_who_count_see_each_part(calls):
    with composed():
        alone = run_inner(**inner_inputs(5), backend='cpu')
    assert not calls
    together = run_inner(**inner_inputs(5), backend='cpu')
    assert len(calls) == 1
    assert_close('y', together, alone, torch.float32)


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
@pytest.mark.parametrize(
    'name', ['z', 'f_conv_weight', 'f_x_proj', 'b_dt_proj', 'b_A_log', 'b_D']
)
def test_wrong_shapes_are_refused_by_name(name, backend):
    inputs = inner_inputs(7)
    inputs[name] = inputs[name].repeat_interleave(2, 0)
    shown = name.replace('f_', 'forward.').replace('b_', 'backward.')
    with pytest.raises(ValueError, match=f': {shown} must have the shape'):
        run_inner(**inputs, backend=backend)


def test_directions_of_different_sizes_are_refused():
    inputs = inner_inputs(7, d_state=3)
    wider = inner_inputs(7, d_state=4)
    inputs |= {k: v for k, v in wider.items() if k.startswith('b_')}
    with pytest.raises(ValueError, match='backward.x_proj must have the sh'):
        run_inner(**inputs, backend='cpu')


def test_a_convolution_without_taps_is_refused():
    with pytest.raises(ValueError, match='conv_weight must hold at least one'):
        run_inner(**inner_inputs(7, width=0), backend='cpu')


@pytest.mark.parametrize('name', ['x', 'f_conv_weight', 'b_A_log'])
def test_wrong_dimensions_are_refused(name):
    inputs = inner_inputs(7)
    inputs[name] = inputs[name][0]
    with pytest.raises(ValueError, match='must have the shape'):
        run_inner(**inputs, backend='cpu')


@pytest.mark.parametrize('scored', [False, True])
def test_fake_op_has_the_shapes_of_the_real_one(scored):
    inputs = inner_inputs(**SMALL)
    real = fused_inner(*operands(inputs), scored)
    meta = {name: x.to('meta') for name, x in inputs.items()}
    fake = fused_inner(*operands(meta), scored)
    for r, f in zip(real, fake, strict=True):
        assert (r.shape, r.dtype, r.stride()) == (f.shape, f.dtype, f.stride())


def test_counter_sees_products_convolutions_and_scans():
    if not hasattr(torch.library, 'register_fake'):
        pytest.skip('torch 2.1 counts no operators of others')
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        fused_inner(*operands(inner_inputs(7, batch=2)), False)
    # Of a token and a direction, with 5 channels, 3 states, rank 2, width 4:
    # (4 + 8 + 2) x 5 multiply-adds, 9 x 15 + 2 x 5 operations of the scan.
    assert counter.get_total_flops() == 2 * 7 * 2 * (2 * 14 * 5 + 145)


def test_fused_operators_pass_opcheck():
    opcheck = getattr(torch.library, 'opcheck', None)
    if opcheck is None:
        pytest.skip('torch.library.opcheck needs torch >= 2.4')
    x, z, *directions = operands(inner_inputs(**SMALL))
    pairs = [list(pair) for pair in zip(*directions, strict=True)]
    opcheck(op(fused_cpu.INNER), (x, z, *pairs, True))
    x, residual = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    opcheck(op(fused_cpu.NORM), (x, residual, torch.ones(5), 1e-5))


# --------------------------------------------------------------------- norm


@pytest.mark.parametrize('dim', [1, 5, 16, 33, 384])
@pytest.mark.parametrize('first', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_norm_of_the_stream_matches_the_reference(dim, first, dtype, isa):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 19, dim, generator=generator).to(dtype)
    weight = torch.randn(dim, generator=generator).to(dtype)
    residual = None if first else torch.randn(2, 19, dim, generator=generator)
    exact = (
        x.double(),
        None if first else residual.double(),
        weight.double(),
    )
    expected = add_rms_norm(*exact, 1e-5)
    normed, stream = add_rms_norm(x, residual, weight, 1e-5)
    assert (normed.dtype, stream.dtype) == (dtype, torch.float32)
    assert_close('norm', normed, expected[0], dtype)
    assert_close('stream', stream, expected[1], torch.float32)


def test_norm_with_gradients_is_the_same():
    x, residual = torch.randn(2, 3, 20), torch.randn(2, 3, 20)
    weight = torch.randn(20)
    expected = add_rms_norm(x, residual, weight, 1e-5)
    weight.requires_grad_()
    actual = add_rms_norm(x, residual, weight, 1e-5)
    assert actual[0].requires_grad
    for a, b in zip(actual, expected, strict=True):
        assert_close('norm', a, b, torch.float32)


@pytest.mark.parametrize('graded', [False, True])
@pytest.mark.parametrize(
    ('residual', 'channels', 'message'),
    [
        ((3, 8), 8, r'residual must have the shape \(2, 3, 8\)'),
        ((2, 3, 8), 4, r'weight must have the shape \(8,\)'),
    ],
)
def test_a_norm_of_other_sizes_is_refused(residual, channels, message, graded):
    weight = torch.ones(channels, requires_grad=graded)
    with pytest.raises(ValueError, match=message):
        add_rms_norm(torch.ones(2, 3, 8), torch.ones(residual), weight, 1e-5)


def test_an_older_build_is_named_and_left_out(monkeypatch):
    monkeypatch.setattr(ops.extension, 'NEWEST_KERNELS', ('of_tomorrow',))
    reason = ops.extension.load()
    assert 'is of an older mmscope' in reason
    assert ops.extension.BUILD_COMMAND in reason


def test_public_function_takes_the_fused_path_by_itself(calls):
    run_inner(**inner_inputs(5), backend='auto')
    assert len(calls) == 1
