from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from mmscope import ops
from mmscope.ops import add_rms_norm, fused_cpu
from mmscope.ops.fused_cpu import ScanDirection, can_fuse, fused_scan
from mmscope.ops.library import op
from mmscope.testing import assert_close, doubled

sys.path.insert(0, str(Path(__file__).parent))
from inner_inputs import inner_inputs, run_inner


def direction(batch, seqlen, dim, d_state, generator):
    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    return ScanDirection(
        u=draw(batch, seqlen, dim),
        delta=draw(batch, seqlen, dim),
        A=-torch.rand(dim, d_state, generator=generator) * 4,
        B=draw(batch, seqlen, d_state),
        C=draw(batch, seqlen, d_state),
        D=draw(dim),
        delta_bias=draw(dim) - 2,
    )


def scan_pair(batch=2, seqlen=7, dim=5, d_state=3):
    generator = torch.Generator().manual_seed(0)
    shape = (batch, seqlen, dim, d_state, generator)
    # As the input projection leaves it: the second part of a tensor.
    z = torch.randn(batch, seqlen, 2 * dim, generator=generator)[..., dim:]
    return direction(*shape), direction(*shape), z


def check_inner(inputs, dtype=torch.float32):
    for returns in ('y', 'scores'):
        expected = run_inner(
            **doubled(inputs), backend='reference', returns=returns
        )
        actual = run_inner(**inputs, backend='cpu', returns=returns)
        assert_close(returns, actual, expected, dtype)


@pytest.fixture
def calls(monkeypatch):
    """Count the fused scans."""
    seen = []

    def counted(*args):
        seen.append(args)
        return fused_scan(*args)

    monkeypatch.setattr('mmscope.ops.bidirectional.fused_scan', counted)
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


def test_both_directions_are_summed_before_they_are_rounded(isa):
    ahead, back, z = scan_pair(seqlen=40, dim=20)
    halves = [
        ScanDirection(*(x.bfloat16() for x in part[:6]), part.delta_bias)
        for part in (ahead, back)
    ]
    out, _ = fused_scan(*halves, z.bfloat16(), False)
    exact = [
        ScanDirection(*(x.float() for x in part[:6]), part.delta_bias)
        for part in halves
    ]
    expected, _ = fused_scan(*exact, z.bfloat16().float(), False)
    assert torch.equal(out, expected.bfloat16())


def test_absent_channels_never_are_the_largest(isa):
    # Fewer channels than lanes, and every output below zero.
    ahead, back, z = scan_pair(dim=3)
    ahead, back = (
        part._replace(
            u=part.u.abs(), C=torch.zeros_like(part.C), D=-torch.ones(3)
        )
        for part in (ahead, back)
    )
    _, largest = fused_scan(ahead, back, z, True)
    expected = [-part.u.amin(-1) for part in (ahead, back)]
    torch.testing.assert_close(largest, torch.stack(expected))


def test_not_a_number_stays_in_the_scores(isa):
    ahead, back, z = scan_pair(dim=20, seqlen=4)
    ahead.u[1, 3, 7] = torch.nan
    _, largest = fused_scan(ahead, back, z, True)
    assert largest[0].isnan().nonzero().tolist() == [[1, 3]]
    assert not largest[1].isnan().any()


def test_number_of_threads_changes_nothing(isa):
    pair = scan_pair(batch=3, seqlen=70, dim=100)
    one = fused_scan(*pair, True)
    torch.set_num_threads(2)
    two = fused_scan(*pair, True)
    for a, b in zip(one, two, strict=True):
        assert_close('output', a, b, torch.float64)


@pytest.mark.parametrize('empty', [dict(batch=0), dict(seqlen=0)])
def test_no_tokens_give_no_output(empty):
    ahead, back, z = scan_pair(**empty)
    out, largest = fused_scan(ahead, back, z, True)
    assert out.shape == z.shape
    assert largest.shape == (2, *z.shape[:2])


def test_gradients_are_left_to_the_composed_scans(calls):
    inputs = {k: v.requires_grad_() for k, v in inner_inputs(5).items()}
    assert run_inner(**inputs, backend='cpu').requires_grad
    assert not calls
    with torch.no_grad():
        run_inner(**inputs, backend='cpu')
    assert len(calls) == 1


def test_a_score_of_ones_own_is_composed(calls):
    inputs = inner_inputs(5)
    run_inner(**inputs, backend='cpu', score=lambda y: y.amax(-1))
    assert not calls


def test_double_precision_keeps_its_digits():
    inputs = doubled(inner_inputs(5))
    assert not can_fuse('cpu', *inputs.values())
    assert run_inner(**inputs, backend='auto').dtype == torch.float64


@pytest.mark.parametrize('name', ['u', 'B', 'D'])
def test_wrong_shapes_are_refused(name):
    ahead, back, z = scan_pair()
    wrong = back._replace(**{name: getattr(back, name)[..., 1:]})
    with pytest.raises(ValueError, match='must have the shape'):
        fused_scan(ahead, wrong, z, False)


def test_directions_of_different_sizes_are_refused():
    ahead, back, z = scan_pair()
    longer, _, _ = scan_pair(seqlen=9)
    with pytest.raises(ValueError, match='z must have the shape'):
        fused_scan(ahead, longer, z, False)


@pytest.mark.parametrize('scored', [False, True])
def test_fake_scan_has_the_shapes_of_the_real_one(scored):
    ahead, back, z = scan_pair()
    real = fused_scan(ahead, back, z, scored)
    fake = fused_scan(
        ScanDirection(*(x.to('meta') for x in ahead)),
        ScanDirection(*(x.to('meta') for x in back)),
        z.to('meta'),
        scored,
    )
    for r, f in zip(real, fake, strict=True):
        assert (r.shape, r.dtype, r.stride()) == (f.shape, f.dtype, f.stride())


def test_fused_operators_pass_opcheck():
    opcheck = getattr(torch.library, 'opcheck', None)
    if opcheck is None:
        pytest.skip('torch.library.opcheck needs torch >= 2.4')
    ahead, back, z = scan_pair()
    pairs = [list(pair) for pair in zip(ahead, back, strict=True)]
    opcheck(op(fused_cpu.SCAN), (*pairs, z, True))
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


def test_an_older_build_is_named_and_left_out(monkeypatch):
    monkeypatch.setattr(ops.extension, 'NEWEST_KERNELS', ('of_tomorrow',))
    reason = ops.extension.load()
    assert 'is of an older mmscope' in reason
    assert ops.extension.BUILD_COMMAND in reason


def test_public_function_takes_the_fused_path_by_itself(calls):
    run_inner(**inner_inputs(5), backend='auto')
    assert len(calls) == 1
