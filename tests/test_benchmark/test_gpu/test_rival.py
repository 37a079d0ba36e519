"""mamba-ssm's calls, on a stand-in that checks what it is given."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmscope.benchmark.gpu import rival
from mmscope.benchmark.gpu.rival import (
    MODULE,
    channels_first_scan,
    to_channels_first,
    why_no_rival,
    with_rival_mixers,
)
from mmscope.benchmark.gpu.stand_in import stand_in
from mmscope.benchmark.models import build_vim
from mmscope.models.layers import MixerPlan
from mmscope.ops.reference import selective_scan_reference
from mmscope.testing import assert_close, run_with_grads, scan_inputs

ARCH = dict(embed_dims=8, num_layers=2)


@pytest.fixture(autouse=True)
def _module():
    with stand_in(MODULE, True):
        yield


def test_scan_is_called_as_its_package_calls_it():
    inputs = scan_inputs(seqlen=6)

    def scan(**tensors):
        return channels_first_scan(**to_channels_first(tensors)).mT

    expected = run_with_grads(
        partial(selective_scan_reference, delta_softplus=True), inputs
    )
    actual = run_with_grads(scan, inputs)
    for name, value in expected.items():
        assert_close(name, actual[name], value, torch.float32)


@pytest.mark.parametrize('training', [False, True])
def test_vim_on_its_kernels_is_the_same_model(training):
    torch.manual_seed(0)
    vim = build_vim(ARCH, 32, backend='reference').train(training)
    images = torch.randn(2, 3, 32, 32)
    expected = vim(images)
    (grad,) = torch.autograd.grad(
        expected.square().sum(), vim.backbone.layers[0].mixer.A_b_log
    )
    other = with_rival_mixers(vim)
    actual = other(images)
    (rival_grad,) = torch.autograd.grad(
        actual.square().sum(), vim.backbone.layers[0].mixer.mixer.A_b_log
    )
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rival_grad, grad, rtol=1e-3, atol=1e-5)


class Calls(TorchDispatchMode):
    """Note which operators run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        self.names.append(op.overloadpacket.__name__)
        return op(*args, **kwargs or {})


def test_its_projection_copies_nothing_even_with_gradients(monkeypatch):
    strides = []

    def core(x, z, *weights):
        strides.extend([x.stride(-1), z.stride(-1)])
        return x * z

    monkeypatch.setattr(rival, 'rival_core', core)
    mixer = with_rival_mixers(build_vim(ARCH, 32)).backbone.layers[0].mixer
    with Calls() as calls:
        mixer(torch.randn(2, 5, 8))
    # The kernels want dense sequences.
    assert strides == [1, 1]
    before = calls.names[: calls.names.index('mul')]
    assert 'mm' in before
    assert not {'clone', 'copy_', '_to_copy', 'bmm'} & set(before)


def test_it_runs_under_autocast():
    model = with_rival_mixers(build_vim(ARCH, 32))
    with torch.autocast('cpu', torch.bfloat16):
        out = model(torch.randn(1, 3, 32, 32))
    out.float().sum().backward()
    assert torch.isfinite(out).all()


def test_scores_are_refused():
    vim = with_rival_mixers(build_vim(ARCH, 32))
    with pytest.raises(ValueError, match='no token scores'):
        vim.backbone.layers[0].mixer(
            torch.randn(1, 2, 8), MixerPlan(score='max_norm')
        )


def test_without_it_the_command_that_builds_it_is_named(monkeypatch):
    assert why_no_rival() is None
    monkeypatch.setitem(__import__('sys').modules, MODULE, None)
    assert 'tools/misc/build_selective_scan.py' in why_no_rival()
