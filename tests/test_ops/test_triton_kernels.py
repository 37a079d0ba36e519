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
def test_cases_pass_on_a_gpu_or_in_the_interpreter():
    # A process of its own: triton reads the variable once, when imported.
    needs_triton()
    where = {} if GPU else {triton_backend.INTERPRETER_VARIABLE: '1'}
    files = sorted(CASES.glob('triton_*.py'))
    assert [f.stem[7:] for f in files] == ['bidirectional', 'conv', 'scan']
    out = run_python(
        *('-m', 'pytest', '-v', '-x', '-p', 'no:cacheprovider'),
        *map(str, files),
        # cuBLAS wants it while the conftest asks for deterministic sums.
        CUBLAS_WORKSPACE_CONFIG=':4096:8',
        **where,
    )
    for file in files:
        passed = re.findall(rf'{file.name}::.* PASSED', out)
        assert len(passed) > 8, out


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


@pytest.mark.parametrize(
    ('sequences', 'seqlen', 'channels', 'spans'),
    [
        (256, 197, 64, 1),
        (64, 197, 32, 1),
        (8, 197, 8, 1),
        (1, 197, 8, 1),
        (1, 4097, 16, 33),
        (256, 4097, 64, 1),
    ],
)
def test_few_programs_are_narrow_and_long_sequences_are_cut(
    sequences, seqlen, channels, spans
):
    needs_triton()
    from mmscope.ops.triton_kernels.launch import (
        CHUNK,
        SPAN,
        WIDTHS,
        plan_scan,
    )

    assert SPAN % CHUNK == 0
    plan = plan_scan(sequences, seqlen, 768, WIDTHS)
    assert (plan.channels, plan.spans) == (channels, spans)
    assert plan.span * plan.spans >= seqlen
    assert plan.blocks * plan.channels == 768


def test_the_backward_cuts_before_its_programs_get_narrower():
    needs_triton()
    from mmscope.ops.triton_kernels.launch import BACKWARD_WIDTHS, plan_scan

    plan = plan_scan(16, 1025, 768, BACKWARD_WIDTHS, cuts_first=True)
    assert (plan.channels, plan.spans) == (32, 9)
    plan = plan_scan(16, 197, 768, BACKWARD_WIDTHS, cuts_first=True)
    assert (plan.channels, plan.spans) == (8, 1)


@pytest.mark.parametrize(
    ('capability', 'channels', 'registers'),
    [(80, 64, 128), (90, 64, 128), (100, 64, 144), (120, 64, 144)]
    + [(100, 32, 128), (100, 8, 128)],
)
def test_wide_programs_get_more_registers_on_blackwell(
    capability, channels, registers
):
    needs_triton()
    from mmscope.ops.triton_kernels.launch import MOST_REGISTERS, options_for

    sizes = dict(CHANNELS=channels, maxnreg=MOST_REGISTERS)
    assert options_for(capability, sizes)['maxnreg'] == registers
    # The backward takes what it needs, a convolution says nothing.
    for sizes in (dict(CHANNELS=64, maxnreg=None), dict(CHANNELS=64)):
        assert options_for(capability, sizes) == sizes


@pytest.mark.parametrize(
    ('start', 'token', 'expected'),
    [(0, 64, 16), (24, 56, 16), (12, 44, 8), (1, 56, 2), (0, 33, 2)],
)
def test_alignment_is_that_of_every_row(start, token, expected):
    needs_triton()
    from mmscope.ops.triton_kernels.launch import alignment

    wide = torch.empty(2, 3, token, dtype=torch.bfloat16)
    assert wide.data_ptr() % 16 == 0
    assert alignment(wide[..., start : start + 4], None) == expected


def test_capture_and_two_devices_meet_no_hidden_synchronisation():
    # What would break a CUDA graph, or launch on the wrong device.
    needs_triton()
    folder = ROOT / 'mmscope' / 'ops' / 'triton_kernels'
    for path in folder.glob('*.py'):
        text = path.read_text(encoding='utf-8')
        assert not re.search(r'\.item\(|\.tolist\(|synchronize', text), path
        started = re.findall(r'\w+\[grid\]', text)
        assert bool(started) == (path.name == 'launch.py'), path


def test_more_sequences_than_cuda_takes_are_refused():
    needs_triton()
    from mmscope.ops.triton_kernels.launch import launch

    with pytest.raises(ValueError, match='at most 65535 sequences'):
        launch(None, (1, 65536), torch.ones(1))
