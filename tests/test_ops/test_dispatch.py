from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch

from mmscope import ops
from mmscope.ops import dispatch, extension
from mmscope.testing import scan_inputs

MISSING = 'the compiled extension is not there; build it: make it so'


@pytest.fixture
def uncompiled(monkeypatch):
    """Pretend that the extension was never built."""
    monkeypatch.setattr(extension, 'why_not_compiled', lambda: MISSING)
    monkeypatch.setattr(dispatch, '_warned', set())


def test_compiled_kernels_are_there():
    # Set-up builds them on every machine with a compiler.
    assert ops.why_unavailable('cpu', 'cpu') is None
    assert {'reference', 'cpu'} <= set(ops.available_backends('cpu'))


def test_auto_takes_the_compiled_kernels(monkeypatch):
    monkeypatch.setattr(dispatch, '_warn_slow', pytest.fail)
    u = scan_inputs()['u']
    assert dispatch.resolve_scan('auto', u) == 'cpu'
    assert dispatch.resolve_conv('auto', u.bfloat16()) == 'cpu'
    # float64 is wanted for its digits, which only the reference has.
    assert dispatch.resolve_scan('auto', u.double()) == 'reference'


def test_auto_without_kernels_warns_once_and_tells_how_to_build(uncompiled):
    inputs = scan_inputs()
    with pytest.warns(RuntimeWarning, match='slow reference.*make it so'):
        ops.selective_scan(**inputs)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        ops.selective_scan(**inputs)


def test_wanted_backend_without_kernels_is_refused(uncompiled):
    assert ops.available_backends('cpu') == ('reference',)
    with pytest.raises(RuntimeError, match="backend='cpu'.*make it so"):
        ops.selective_scan(**scan_inputs(), backend='cpu')


def test_missing_extension_names_itself_and_the_command(monkeypatch):
    monkeypatch.setattr(
        extension, 'extension_name', lambda: 'mmscope.ops._C_torch00'
    )
    reason = extension.load()
    assert '_C_torch00 is not there' in reason
    assert extension.BUILD_COMMAND in reason


def test_foreign_extension_gives_its_reason(monkeypatch):
    def load(name):
        raise ImportError('undefined symbol: _ZN2at4nope')

    monkeypatch.setattr(extension.importlib, 'import_module', load)
    reason = extension.load()
    assert 'undefined symbol: _ZN2at4nope' in reason
    assert extension.BUILD_COMMAND in reason


def test_mamba_ssm_is_refused_with_the_reason():
    with pytest.raises(RuntimeError, match='needs tensors on a CUDA device'):
        ops.selective_scan(**scan_inputs(), backend='mamba_ssm')


def test_cpu_backend_refuses_other_devices_and_float64():
    u = scan_inputs()['u']
    assert 'got cuda' in ops.why_unavailable('cpu', 'cuda')
    with pytest.raises(RuntimeError, match='got torch.float64'):
        dispatch.resolve_scan('cpu', u.double())


def test_convolution_refuses_a_backend_without_one():
    with pytest.raises(RuntimeError, match='no causal convolution'):
        ops.causal_conv1d(
            torch.ones(1, 2, 3), torch.ones(3, 4), backend='mamba_ssm'
        )


def test_unknown_backend_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'reference', 'cpu'.*got 'cuda'"):
        ops.selective_scan(**scan_inputs(), backend='cuda')
    with pytest.raises(ValueError, match="got 'auto'"):
        ops.why_unavailable('auto', 'cpu')


def test_unknown_instruction_set_is_refused_with_those_that_run():
    with pytest.raises(ValueError, match="'sse9' cannot run.*portable"):
        ops.set_cpu_isa('sse9')


def test_environment_variable_sets_the_instruction_set():
    code = 'from mmscope import ops; print(ops.cpu_isa())'
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        env={extension.ISA_VARIABLE: 'portable'},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == 'portable'


WRONG = {
    'delta': (torch.ones(2, 7, 4), r'delta.*\(2, 7, 5\).*got \(2, 7, 4\)'),
    'A': (torch.ones(6, 4), r'A must have the shape \(5, 4\).*got \(6, 4\)'),
    'B': (torch.ones(2, 4, 7), r'B.*\(2, 7, 4\).*got \(2, 4, 7\)'),
    'D': (torch.ones(1), r'D must have the shape \(5,\)'),
    'u': (torch.ones(7, 5), r'u.*\(batch, seqlen, dim\), got \(7, 5\)'),
    'z': (torch.ones(2, 7, 5, dtype=torch.int64), 'z.*floating.*int64'),
    'C': (torch.ones(2, 7, 4, device='meta'), 'C is on meta but u is on cpu'),
}


@pytest.mark.parametrize('name', WRONG)
def test_misfit_input_is_refused_with_got_and_expected(name):
    value, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        ops.selective_scan(**scan_inputs() | {name: value})
