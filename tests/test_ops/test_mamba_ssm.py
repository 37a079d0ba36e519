from __future__ import annotations

import sys
import types

import pytest
import torch

from mmscope.ops import mamba_ssm as adapter
from mmscope.ops import selective_scan, why_unavailable
from mmscope.ops.reference import selective_scan_reference
from mmscope.testing import assert_close, run_with_grads, scan_inputs

SEQUENCES = ('u', 'delta', 'B', 'C', 'z')


@pytest.fixture
def package(monkeypatch):
    """Stand in for mamba-ssm: its layout and its demands, our arithmetic."""

    def selective_scan_fn(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
        sequences = [x for x in (u, delta, B, C, z) if x is not None]
        assert {x.dtype for x in sequences} == {u.dtype}
        assert all(x.stride(-1) == 1 for x in sequences)
        parameters = [x for x in (A, D, delta_bias) if x is not None]
        assert {x.dtype for x in parameters} == {torch.float32}
        last = [x if x is None else x.mT for x in (u, delta, B, C, z)]
        y = selective_scan_reference(
            last[0],
            last[1],
            A,
            last[2],
            last[3],
            D,
            last[4],
            delta_bias,
            delta_softplus,
        )
        return y.mT

    name = 'mamba_ssm.ops.selective_scan_interface'
    module = types.ModuleType(name)
    module.selective_scan_fn = selective_scan_fn
    for part in ('mamba_ssm', 'mamba_ssm.ops'):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('absent', [(), ('D', 'z', 'delta_bias')])
def test_adapter_meets_the_packages_demands(package, reverse, dtype, absent):
    inputs = scan_inputs(seqlen=13, dtype=dtype)
    inputs = {k: v for k, v in inputs.items() if k not in absent}
    options = dict(delta_softplus=True, reverse=reverse)
    expected = run_with_grads(selective_scan_reference, inputs, **options)
    actual = run_with_grads(
        adapter.selective_scan_mamba_ssm, inputs, **options
    )
    for key, value in expected.items():
        assert_close(key, actual[key], value, dtype)


def test_absent_package_is_named_with_the_command():
    if adapter.why_not_installed() is None:
        pytest.skip('mamba-ssm is installed')
    reason = why_unavailable('mamba_ssm', 'cuda')
    assert 'cannot be imported' in reason
    assert adapter.INSTALL_COMMAND in reason


@pytest.mark.gpu
@pytest.mark.parametrize('reverse', [False, True])
def test_package_matches_reference_on_a_gpu(reverse):
    if not torch.cuda.is_available():
        pytest.skip('needs a CUDA device')
    if reason := why_unavailable('mamba_ssm', 'cuda'):
        pytest.skip(reason)
    inputs = scan_inputs(seqlen=65, dim=32, d_state=16)
    options = dict(delta_softplus=True, reverse=reverse)
    expected = run_with_grads(selective_scan_reference, inputs, **options)
    actual = run_with_grads(
        selective_scan,
        {k: v.cuda() for k, v in inputs.items()},
        **options,
        backend='mamba_ssm',
    )
    for key, value in expected.items():
        assert_close(key, actual[key].cpu(), value, torch.float16)
