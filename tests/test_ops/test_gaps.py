"""Idle steps between tokens: the state passes where pruned ones stood."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from mmscope.ops import DirectionModules, selective_scan
from mmscope.ops.bidirectional import scan_direction
from mmscope.ops.direction import DirectionWeights
from mmscope.ops.reference import selective_scan_reference
from mmscope.testing import (
    assert_close,
    doubled,
    run_with_grads,
    scan_inputs,
)

sys.path.insert(0, str(Path(__file__).parent))
from inner_inputs import inner_inputs, run_inner

GAPS = torch.tensor([[0, 2, 0, 0, 5, 0, 1], [3, 0, 0, 1, 0, 0, 0]])
BACKENDS = pytest.mark.parametrize('backend', ['reference', 'cpu'])
REVERSE = pytest.mark.parametrize('reverse', [False, True])


@REVERSE
@pytest.mark.parametrize(
    'scan', [selective_scan_reference, selective_scan], ids=['truth', 'op']
)
def test_all_inputs_pass_gradcheck(scan, reverse):
    inputs = doubled(scan_inputs(batch=2, seqlen=7, dim=3, d_state=2))
    values = [x.requires_grad_() for x in inputs.values()]
    run = partial(scan, delta_softplus=True, reverse=reverse, gaps=GAPS)
    assert torch.autograd.gradcheck(lambda *x: run(*x), values)


@REVERSE
@pytest.mark.parametrize('scan', [selective_scan_reference, selective_scan])
def test_a_gap_is_as_many_tokens_without_input(scan, reverse):
    inputs = doubled(scan_inputs(batch=1))
    counts = GAPS[0].flip(0) if reverse else GAPS[0]
    # In the direction of the scan a token comes after its gap.
    order = torch.arange(7)
    first = torch.repeat_interleave(order, counts + 1)
    last = first.diff(append=first.new_tensor([-1])) != 0
    if reverse:
        first, last = 6 - first.flip(0), last.flip(0)
    longer = dict(inputs)
    for name in ('u', 'delta', 'B', 'C', 'z'):
        longer[name] = inputs[name][:, first]
    # No input: its step is softplus(0 + bias) and it drives nothing.
    for name in ('u', 'delta'):
        longer[name] = torch.where(last[:, None], longer[name], 0)
    options = dict(delta_softplus=True, reverse=reverse)
    wanted = selective_scan_reference(**longer, **options)[:, last]
    actual = scan(**inputs, **options, gaps=GAPS[:1])
    torch.testing.assert_close(actual, wanted)
    assert not torch.allclose(scan(**inputs, **options), wanted)


@BACKENDS
@pytest.mark.parametrize('softplus', [True, False])
@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.bfloat16, torch.float16]
)
@REVERSE
def test_backends_match_the_truth(backend, softplus, dtype, reverse):
    inputs = scan_inputs(seqlen=70, dim=20, dtype=dtype)
    if not softplus:
        for name in ('delta', 'delta_bias'):
            inputs[name] = inputs[name].abs()
    generator = torch.manual_seed(3)
    gaps = torch.randint(0, 4, (2, 70), generator=generator)
    options = dict(delta_softplus=softplus, reverse=reverse, gaps=gaps)
    wanted = run_with_grads(
        selective_scan_reference, doubled(inputs), **options
    )
    actual = run_with_grads(selective_scan, inputs, backend=backend, **options)
    for name, value in wanted.items():
        assert_close(name, actual[name], value, dtype)
    for name, x in inputs.items():
        assert actual[name].dtype == x.dtype


@BACKENDS
@pytest.mark.parametrize('absent', [('D',), ('z',), ('D', 'z')], ids='+'.join)
def test_skip_and_gate_stay_optional(backend, absent):
    inputs = {k: v for k, v in scan_inputs().items() if k not in absent}
    options = dict(delta_softplus=True, gaps=GAPS)
    wanted = run_with_grads(
        selective_scan_reference, doubled(inputs), **options
    )
    actual = run_with_grads(selective_scan, inputs, backend=backend, **options)
    for name, value in wanted.items():
        assert_close(name, actual[name], value, torch.float32)


@BACKENDS
def test_steps_that_vanish_give_no_nan(backend):
    inputs = scan_inputs()
    inputs['delta'][:, :4] = -200.0
    inputs['delta_bias'][:2] = -200.0
    options = dict(delta_softplus=True, gaps=GAPS)
    actual = run_with_grads(selective_scan, inputs, backend=backend, **options)
    wanted = run_with_grads(
        selective_scan_reference, doubled(inputs), **options
    )
    for name, value in wanted.items():
        assert_close(name, actual[name], value, torch.float32)


WRONG = {
    'no bias': ({'delta_bias': None}, 'gaps need delta_bias'),
    'shape': ({'gaps': GAPS[0]}, r'gaps .* shape \(2, 7\).*got \(7,\)'),
    'mask': ({'gaps': GAPS > 0}, r'counts .* got torch.bool'),
    'gradient': (
        {'gaps': GAPS.float().requires_grad_()},
        'without a gradient.*requires_grad=True; detach',
    ),
    'device': ({'gaps': GAPS.to('meta')}, 'gaps is on meta but u is on cpu'),
}


@pytest.mark.parametrize('case', WRONG)
def test_gaps_that_do_not_fit_are_refused(case):
    change, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        selective_scan(**{**scan_inputs(), 'gaps': GAPS, **change})


def test_a_backend_that_cannot_run_is_refused_with_gaps_too():
    for backend in ('triton', 'mamba_ssm'):
        with pytest.raises(RuntimeError, match=f"'{backend}' cannot run"):
            selective_scan(**scan_inputs(), backend=backend, gaps=GAPS)


@pytest.mark.skipif(
    not hasattr(torch.library, 'register_fake'), reason='needs torch >= 2.4'
)
@BACKENDS
def test_one_graph_holds_gaps_and_gradients(backend):
    run = partial(
        selective_scan, delta_softplus=True, backend=backend, gaps=GAPS
    )
    compiled = torch.compile(run, fullgraph=True, backend='aot_eager')
    wanted = run_with_grads(run, scan_inputs())
    actual = run_with_grads(compiled, scan_inputs())
    for name, value in wanted.items():
        assert_close(name, actual[name], value, torch.float32)


# ---------------------------------------------------------- both directions

BOTH = torch.stack([GAPS, GAPS.flip(1)])


def test_each_direction_has_gaps_of_its_own():
    inputs = inner_inputs(7, batch=2)
    plain = run_inner(**inputs, backend='reference')
    for place, silent in enumerate(('b_', 'f_')):
        alone = dict(inputs)
        # Without C and D a direction's output vanishes.
        for name in ('x_proj', 'D'):
            alone[silent + name] = torch.zeros_like(inputs[silent + name])
        before = run_inner(**alone, backend='cpu')
        own, other = torch.zeros_like(BOTH), torch.zeros_like(BOTH)
        own[place], other[1 - place] = BOTH[place], BOTH[1 - place]
        same = run_inner(**alone, backend='cpu', gaps=other)
        assert_close('other', same, before, torch.float32)
        changed = run_inner(**alone, backend='cpu', gaps=own)
        assert not torch.allclose(changed, before)
    both = run_inner(**inputs, backend='reference', gaps=BOTH)
    assert not torch.allclose(both, plain)


def test_compiled_kernels_match_the_reference_in_both_directions():
    inputs = inner_inputs(7, batch=2)
    expected = run_with_grads(
        run_inner, doubled(inputs), backend='reference', gaps=BOTH
    )
    actual = run_with_grads(run_inner, inputs, backend='cpu', gaps=BOTH)
    for name, value in expected.items():
        assert_close(name, actual[name], value, torch.float32)


def test_an_image_that_skips_a_direction_takes_its_gaps_along():
    inputs = inner_inputs(7, batch=2)
    directions = torch.tensor([[True, False], [False, True]])
    options = dict(backend='reference', gaps=BOTH)
    some = run_inner(**inputs, directions=directions, **options)
    scaled = run_inner(**inputs, directions=directions.float(), **options)
    assert_close('y', some, scaled, torch.float32)


def test_modules_idle_as_their_weights_do():
    torch.manual_seed(0)
    conv1d = nn.Conv1d(6, 6, 4, groups=6, padding=3)
    x_proj, dt_proj = nn.Linear(6, 2 + 2 * 3, bias=False), nn.Linear(2, 6)
    rates, skip = torch.rand(6, 3), torch.rand(6)
    modules = DirectionModules(conv1d, x_proj, dt_proj, rates, skip)
    weights = DirectionWeights(
        conv1d.weight.squeeze(1),
        conv1d.bias,
        x_proj.weight,
        dt_proj.weight,
        dt_proj.bias,
        rates,
        skip,
    )
    x = torch.randn(2, 7, 6)
    for reverse in (False, True):
        a, b = (
            scan_direction(x, part, reverse, gaps=GAPS)
            for part in (modules, weights)
        )
        assert_close('y', a, b, torch.float32)


def test_gaps_of_one_direction_alone_are_refused():
    with pytest.raises(ValueError, match=r'gaps .*\(2, 2, 7\).*got \(2, 7\)'):
        run_inner(**inner_inputs(7, batch=2), backend='cpu', gaps=GAPS)
