"""Activation checkpointing: the same numbers from less memory."""

from __future__ import annotations

import pytest
import torch

from mmscope.models import (
    MambaReg,
    MambaRegScope,
    MambaScope,
    TokenViT,
    VideoMamba,
    VideoMambaScope,
    VisionMamba,
    ViTScope,
    observe,
)

FAMILIES = (
    VisionMamba,
    VideoMamba,
    MambaReg,
    TokenViT,
    MambaScope,
    VideoMambaScope,
    MambaRegScope,
    ViTScope,
)
MAPS = {'out_type': 'featmap', 'out_indices': (1, 3)}


def make(family, with_cp, **options):
    torch.manual_seed(0)
    arch = {'embed_dims': 16, 'num_layers': 4}
    model = family(arch=arch, img_size=64, with_cp=with_cp, **options)
    return model.train()


@pytest.fixture
def imgs():
    return torch.randn(4, 3, 64, 64, generator=torch.manual_seed(1))


def step(model, imgs, dtype=None):
    """Outputs of a training step, and the gradients of all parameters."""
    # Drop path and random scores draw from it.
    torch.manual_seed(2)
    with torch.autocast('cpu', dtype, enabled=dtype is not None):
        outputs = model(imgs)
    sum(x.float().square().mean() for x in outputs).backward()
    return outputs, [p.grad for p in model.parameters()]


def assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


@pytest.mark.parametrize('rate', [0.0, 0.5])
@pytest.mark.parametrize('options', [{}, MAPS], ids=['cls', 'maps'])
@pytest.mark.parametrize('family', FAMILIES)
def test_outputs_and_gradients_are_equal(family, options, rate, imgs):
    options = {**options, 'drop_path_rate': rate}
    one = step(make(family, False, **options), imgs)
    other = step(make(family, True, **options), imgs)
    assert_equal(one[0], other[0])
    assert_equal(one[1], other[1])
    assert sum(g is not None for g in one[1]) > 40


@pytest.mark.parametrize('family', [VisionMamba, MambaScope])
def test_they_are_equal_in_mixed_precision(family, imgs):
    steps = [
        step(make(family, with_cp), imgs, torch.bfloat16)
        for with_cp in (False, True)
    ]
    assert_equal(steps[0][0], steps[1][0])
    assert_equal(steps[0][1], steps[1][1])


def test_random_scores_choose_the_same_regions_again(imgs):
    options = {'score_metric': 'random', 'refine_ratio': 0.5}
    one = step(make(MambaScope, False, **options), imgs)
    other = step(make(MambaScope, True, **options), imgs)
    assert_equal(one[0], other[0])
    assert_equal(one[1], other[1])


def count_calls(model):
    calls = []
    for layer in model.layers:
        # Recomputation stops before a block ends.
        layer.register_forward_pre_hook(lambda *call: calls.append(call[0]))
    return calls


def test_blocks_run_again_for_gradients_alone(imgs):
    model = make(VisionMamba, True)
    calls = count_calls(model)
    step(model, imgs)
    assert len(calls) == 2 * 4
    calls.clear()
    with torch.no_grad():
        model(imgs)
    model.eval()(imgs)[0].sum().backward()
    # Each of the two once.
    assert len(calls) == 2 * 4


def kept_by(model, imgs):
    """Numbers that a forward keeps for its gradients, weights aside."""
    weights = {p.data_ptr() for p in model.parameters()}
    kept = {}

    def pack(x):
        if x.data_ptr() not in weights:
            kept[x.data_ptr()] = x.numel()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        outputs = model(imgs)
    del outputs
    return sum(kept.values())


@pytest.mark.parametrize('family', FAMILIES)
def test_a_forward_keeps_less(family, imgs):
    without, with_cp = (kept_by(make(family, i), imgs) for i in (False, True))
    assert with_cp < 0.5 * without


@pytest.mark.parametrize('family', [MambaScope, VideoMambaScope])
def test_a_record_is_the_same(family, imgs):
    records = []
    for with_cp in (False, True):
        model = make(family, with_cp)
        with observe(model) as found:
            step(model, imgs)
        records += found
    one, other = records
    assert (one.lengths, one.fine_lengths) == (
        other.lengths,
        other.fine_lengths,
    )
    assert torch.equal(one.coarse_cls, other.coarse_cls)
    assert other.coarse_cls.requires_grad
