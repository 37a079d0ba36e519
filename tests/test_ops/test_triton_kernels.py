from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from mmscope import ops
from mmscope.ops import dispatch, triton_backend
from mmscope.testing import scan_inputs

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).parent / 'triton_cases'
GPU = torch.cuda.is_available()
# What a choice of backend looks at, for a machine that has a GPU.
ON_GPU = types.SimpleNamespace(
    dtype=torch.float32, device=torch.device('cuda')
)


def needs_triton():
    if reason := triton_backend.probe():
        pytest.skip(reason)


def run_python(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | dict(PYTHONPATH=str(ROOT), **environment),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize('name', ['scan', 'conv', 'bidirectional'])
def test_cases_pass_on_a_gpu_or_in_the_interpreter(name):
    # A process of its own: triton reads the variable once, when imported.
    needs_triton()
    where = {} if GPU else {triton_backend.INTERPRETER_VARIABLE: '1'}
    out = run_python(
        *('-m', 'pytest', '-q', '-x', '-p', 'no:cacheprovider'),
        str(CASES / f'triton_{name}.py'),
        # cuBLAS wants it while the conftest asks for deterministic sums.
        CUBLAS_WORKSPACE_CONFIG=':4096:8',
        **where,
    )
    passed = int(re.search(r'(\d+) passed', out).group(1))
    assert passed > 8, out


@pytest.mark.slow
def test_kernels_compile_for_a_gpu_and_keep_a_channel_in_its_thread(tmp_path):
    needs_triton()
    out = run_python(
        str(CASES / 'compile_only.py'),
        TRITON_CACHE_DIR=str(tmp_path),
        **{triton_backend.INTERPRETER_VARIABLE: '0'},
    )
    lines = [line.split() for line in out.splitlines() if '_kernel' in line]
    assert {name for name, *_ in lines} >= {
        'scan_kernel',
        'both_kernel',
        'span_kernel',
        'carry_kernel',
        'scan_backward_kernel',
        'conv_kernel',
        'conv_backward_kernel',
    }
    for name, target, exchanges, spilled in lines:
        assert spilled == '0', (name, target)
        if name in ('scan_kernel', 'span_kernel', 'carry_kernel'):
            assert exchanges == '0', (name, target)


def test_import_of_the_ops_leaves_triton_alone():
    # Hosts and mmengine are left out; torch's FLOP counter imports it.
    code = (
        'import sys, types, torch.utils.flop_counter\n'
        'for name in [n for n in sys.modules if n.startswith("triton")]:\n'
        '    del sys.modules[name]\n'
        'sys.modules["mmscope"] = types.ModuleType("mmscope")\n'
        'sys.modules["mmscope"].__path__ = ["mmscope"]\n'
        'import mmscope.ops\n'
        'print("triton" in sys.modules)\n'
    )
    assert run_python('-W', 'ignore', '-c', code).split()[-1] == 'False'


def test_refusal_on_the_cpu_says_what_is_needed():
    needs_triton()
    if triton_backend._INTERPRETED:
        pytest.skip('the interpreter runs on the CPU')
    with pytest.raises(RuntimeError, match=r'CUDA device, got cpu; call .cud'):
        ops.selective_scan(**scan_inputs(), backend='triton')
    with pytest.raises(RuntimeError, match=r'CUDA device, got cpu; call .cud'):
        ops.causal_conv1d(
            torch.ones(1, 2, 3), torch.ones(3, 4), backend='triton'
        )
    assert 'triton' not in ops.available_backends('cpu')


def test_machine_without_a_gpu_is_named():
    needs_triton()
    if GPU:
        pytest.skip('this machine has a CUDA device')
    reason = ops.why_unavailable('triton', 'cuda')
    assert 'sees no CUDA device' in reason


@pytest.mark.parametrize(
    ('version', 'message'),
    [(None, 'triton is not installed'), ('2.1.0', '2.1.0 is too old')],
)
def test_absent_or_old_triton_is_named_with_the_command(
    version, message, monkeypatch
):
    monkeypatch.setattr(
        triton_backend.importlib.util, 'find_spec', lambda name: version
    )
    monkeypatch.setattr(
        triton_backend.importlib.metadata, 'version', lambda name: version
    )
    monkeypatch.setattr(
        triton_backend, '_WHY_NOT_INSTALLED', triton_backend.probe()
    )
    reason = ops.why_unavailable('triton', 'cuda')
    assert message in reason
    assert triton_backend.INSTALL_COMMAND in reason


@pytest.mark.parametrize(
    ('installed', 'scan', 'conv'),
    [
        (('triton', 'mamba_ssm'), 'mamba_ssm', 'reference'),
        (('triton',), 'triton', 'triton'),
        (('mamba_ssm',), 'mamba_ssm', 'reference'),
    ],
)
def test_auto_on_a_gpu_takes_what_is_installed(
    installed, scan, conv, monkeypatch
):
    monkeypatch.setattr(
        dispatch,
        'why_unavailable',
        lambda name, device: (
            None if name in ('reference', *installed) else 'missing'
        ),
    )
    monkeypatch.setattr(dispatch, '_warn_slow', pytest.fail)
    assert dispatch.resolve_scan('auto', ON_GPU) == scan
    assert dispatch.resolve_conv('auto', ON_GPU) == conv


def test_auto_on_a_gpu_without_any_warns_and_takes_the_reference(monkeypatch):
    monkeypatch.setattr(
        dispatch, 'why_unavailable', lambda name, device: 'missing'
    )
    warned = []
    monkeypatch.setattr(dispatch, '_warn_slow', warned.append)
    assert dispatch.resolve_scan('auto', ON_GPU) == 'reference'
    assert warned == ['triton is out: missing']


def test_long_sequences_are_cut_where_few_programs_run():
    needs_triton()
    from mmscope.ops.triton_kernels.launch import CHUNK, SPAN, plan_scan

    assert SPAN % CHUNK == 0
    many_short = plan_scan(sequences=256, seqlen=197, dim=768)
    assert many_short.spans == 1
    few_long = plan_scan(sequences=1, seqlen=4097, dim=768)
    assert few_long.spans == 33
    assert few_long.span * few_long.spans >= 4097
    assert plan_scan(sequences=256, seqlen=4097, dim=768).spans == 1
