from __future__ import annotations

import pytest
import torch

from mmscope.ops import causal_conv1d, selective_scan
from mmscope.ops.library import op
from mmscope.testing import (
    assert_close,
    conv_inputs,
    run_with_grads,
    scan_inputs,
)

TORCH = tuple(int(part) for part in torch.__version__.split('.')[:2])
needs_torch_2_4 = pytest.mark.skipif(
    TORCH < (2, 4), reason='torch.compile features need torch >= 2.4'
)


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
@pytest.mark.parametrize('save', [False, True])
def test_fake_scan_has_the_shapes_of_the_real_one(backend, save):
    scan = op(f'selective_scan_{backend}')
    inputs = scan_inputs(seqlen=40, dtype=torch.bfloat16)
    real = scan(*inputs.values(), True, False, save)
    fake = scan(*(x.to('meta') for x in inputs.values()), True, False, save)
    for r, f in zip(real, fake, strict=True):
        assert (r.shape, r.dtype, r.stride()) == (f.shape, f.dtype, f.stride())


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
@pytest.mark.parametrize('optional', [False, True])
def test_scan_passes_opcheck(backend, optional):
    opcheck = getattr(torch.library, 'opcheck', None)
    if opcheck is None:
        pytest.skip('torch.library.opcheck needs torch >= 2.4')
    inputs = scan_inputs(seqlen=5)
    if not optional:
        inputs |= dict(D=None, z=None, delta_bias=None)
    leaves = [
        None if x is None else x.requires_grad_() for x in inputs.values()
    ]
    opcheck(op(f'selective_scan_{backend}'), (*leaves, True, True, True))


def test_conv_passes_opcheck():
    opcheck = getattr(torch.library, 'opcheck', None)
    if opcheck is None:
        pytest.skip('torch.library.opcheck needs torch >= 2.4')
    leaves = [x.requires_grad_() for x in conv_inputs().values()]
    opcheck(op('causal_conv1d_cpu'), (*leaves, True, False))


@needs_torch_2_4
@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_compiled_graph_holds_one_call_and_the_right_gradients(backend):
    def block(x, weight, bias, **inputs):
        u = causal_conv1d(x, weight, bias, backend=backend)
        return selective_scan(
            u, **inputs, delta_softplus=True, backend=backend
        )

    inputs = conv_inputs() | scan_inputs()
    del inputs['u']
    compiled = torch.compile(block, fullgraph=True, backend='aot_eager')
    expected = run_with_grads(block, inputs)
    actual = run_with_grads(compiled, inputs)
    for name, value in expected.items():
        assert_close(name, actual[name], value, torch.float32)


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_nothing_is_saved_for_a_backward_that_cannot_come(backend):
    inputs = scan_inputs()
    parameters = {k: v.requires_grad_() for k, v in inputs.items()}
    saved = []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda x: saved.append(x) or x, lambda x: x
    )
    with hooks, torch.no_grad():
        assert not selective_scan(**parameters, backend=backend).requires_grad
    assert not saved
    with torch.inference_mode():
        y = selective_scan(**scan_inputs(), backend=backend)
        x = causal_conv1d(**conv_inputs(), backend=backend)
    assert y.is_inference()
    assert x.is_inference()


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_mixed_dtypes_compute_in_the_common_one(backend):
    # Under autocast linear layers give bfloat16 while parameters stay float32.
    inputs = scan_inputs(seqlen=20, dtype=torch.bfloat16)
    inputs['delta'] = inputs['delta'].float() + 1e-4
    result = run_with_grads(
        selective_scan, inputs, delta_softplus=True, backend=backend
    )
    assert result.pop('out').dtype == torch.bfloat16
    for name, grad in result.items():
        assert grad.dtype == inputs[name].dtype
    exact = run_with_grads(
        selective_scan,
        {k: v.double() for k, v in inputs.items()},
        delta_softplus=True,
    )
    assert_close('delta', result['delta'], exact['delta'], torch.bfloat16)


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_bfloat16_parameters_keep_their_gradients_dtype(backend):
    inputs = {k: v.bfloat16() for k, v in scan_inputs().items()}
    result = run_with_grads(selective_scan, inputs, backend=backend)
    assert {x.dtype for x in result.values()} == {torch.bfloat16}


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_scan_runs_in_training_under_autocast(backend):
    inputs = scan_inputs(dim=6)
    project = torch.nn.Linear(6, 6)
    with torch.autocast('cpu', torch.bfloat16):
        u = project(inputs.pop('u'))
        y = selective_scan(u, **inputs, backend=backend)
    assert u.dtype == y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert project.weight.grad.isfinite().all()


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_flop_counter_sees_the_papers_formula(backend):
    flop_counter = pytest.importorskip('torch.utils.flop_counter')
    if not hasattr(flop_counter, 'register_flop_formula'):
        pytest.skip('this torch cannot take FLOP formulas of other libraries')
    inputs = scan_inputs(batch=2, seqlen=7, dim=5, d_state=4)
    counter = flop_counter.FlopCounterMode(display=False)
    with counter:
        y = selective_scan(
            **{k: v.requires_grad_() for k, v in inputs.items()},
            backend=backend,
        )
    forward = 2 * (9 * 7 * 5 * 4 + 2 * 7 * 5)
    assert counter.get_total_flops() == forward
    with counter:
        y.sum().backward()
    assert counter.get_total_flops() == 2 * forward


def test_flop_counter_sees_the_convolution():
    flop_counter = pytest.importorskip('torch.utils.flop_counter')
    if not hasattr(flop_counter, 'register_flop_formula'):
        pytest.skip('this torch cannot take FLOP formulas of other libraries')
    counts = []
    for backend in ('reference', 'cpu'):
        with flop_counter.FlopCounterMode(display=False) as counter:
            causal_conv1d(**conv_inputs(), backend=backend)
        counts.append(counter.get_total_flops())
    # The reference also multiplies with the zeros before the first token.
    assert counts[1] == 2 * 2 * 7 * 5 * 4
    assert counts[0] == counts[1]


def test_profiler_sees_the_op_by_name():
    with torch.profiler.profile() as profile:
        selective_scan(**scan_inputs(), backend='cpu')
    names = {event.name for event in profile.events()}
    assert 'mmscope::selective_scan_cpu' in names
