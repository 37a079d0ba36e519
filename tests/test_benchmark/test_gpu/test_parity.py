from __future__ import annotations

import pytest
import torch

from mmscope.benchmark.gpu.cases import (
    CONV,
    MIXER,
    PARTS,
    SCAN,
    TRANSPOSED,
    ParityCase,
    full_cases,
    huge_cases,
    small_cases,
)
from mmscope.benchmark.gpu.inputs import draw_inputs, draw_plain
from mmscope.benchmark.gpu.op_grid import _mixers
from mmscope.benchmark.gpu.parity import judge, nan_filled_memory, results
from mmscope.benchmark.gpu.parity_huge import (
    _ends,
    _pick,
    _run,
    needed_bytes,
)
from mmscope.benchmark.gpu.scale import OpPlan
from mmscope.benchmark.ops import PASSES
from mmscope.testing import relative_rms

from .conftest import CPU

CASE = ParityCase(SCAN)


def test_every_case_has_a_name_of_its_own():
    names = [case.name for case in (*full_cases(), *huge_cases())]
    assert len(names) == len(set(names))


def test_long_and_huge_shapes_are_there():
    cases = full_cases()
    for op in (SCAN, CONV, MIXER):
        for dtype in ('float32', 'bfloat16'):
            lengths = {
                c.seqlen for c in cases if (c.op, c.dtype) == (op, dtype)
            }
            assert {197, 4097, 16385} <= lengths
    for case in huge_cases():
        assert case.batch * case.seqlen * case.dim > 2**31
        # 0.7 of the memory of a card with 80 GB.
        assert needed_bytes(case) < 0.7 * 78 * 2**30


def test_what_takes_long_comes_last():
    cases = full_cases()
    small = [cases.index(case) for case in small_cases()]
    long = [i for i, case in enumerate(cases) if case.seqlen > 1000]
    assert max(small) < min(long)
    # The longest after everything else.
    assert {case.seqlen for case in cases[-6:]} == {16385}


def test_tensors_are_judged_by_the_table():
    truth = dict(out=torch.ones(4).double(), u=torch.ones(4).double())
    actual = dict(out=torch.ones(4), u=torch.ones(4) * (1 + 1e-3))
    rows = judge(CASE, actual, truth, lambda: truth, 0.0)
    assert [(row.tensor, row.ok) for row in rows] == [
        ('out', True),
        ('u', False),
    ]


def test_what_plain_pytorch_rounds_is_allowed_twice():
    truth = dict(out=torch.ones(4).double())
    plain = dict(out=torch.ones(4) * (1 + 1e-3))
    for factor, ok in ((1.8e-3, True), (2.2e-3, False)):
        actual = dict(out=torch.ones(4) * (1 + factor))
        (row,) = judge(CASE, actual, truth, lambda: plain, 0.0)
        assert row.ok is ok


def test_what_was_not_written_is_wrong():
    truth = dict(out=torch.ones(4).double())
    actual = dict(out=torch.tensor([1.0, 1.0, 1.0, torch.nan]))
    (row,) = judge(CASE, actual, truth, lambda: truth, 1.0)
    assert row.ok is False


def test_new_memory_is_full_of_nan_meanwhile():
    with nan_filled_memory():
        assert torch.empty(3).isnan().all()
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize('op', [SCAN, CONV, MIXER])
@pytest.mark.parametrize('layout', [PARTS, TRANSPOSED])
def test_layouts_change_no_value(op, layout):
    plain = draw_inputs(ParityCase(op), CPU)
    other = draw_inputs(ParityCase(op, layout=layout), CPU)
    assert any(not x.is_contiguous() for x in other.values())
    for name, x in plain.items():
        assert torch.equal(x, other[name])


def test_a_mixer_reads_two_parts_of_one_tensor_on_every_device():
    for device in (CPU, torch.device('meta')):
        inputs = draw_inputs(ParityCase(MIXER), device)
        # Tokens of 5 channels, as parts of 10.
        assert {inputs[name].stride(1) for name in ('x', 'z')} == {10}


def test_mixers_race_on_parts_as_models_have_them(monkeypatch):
    seen = []

    def core(x, z, *args):
        seen.extend([x, z])
        return x + z, None

    monkeypatch.setattr(
        'mmscope.benchmark.gpu.inputs.bidirectional_inner', core
    )
    monkeypatch.setattr(
        'mmscope.benchmark.gpu.op_grid.rival_core',
        lambda *args: core(*args)[0],
    )
    monkeypatch.setattr(torch.autograd, 'grad', lambda *_, **__: None)
    rivals = _mixers(OpPlan(2, 3, 4, 2), CPU, True)
    for function, inputs in rivals.values():
        for make in PASSES.values():
            make(function, inputs)()
    strides = [x.stride() for x in seen]
    # Both passes of ours, channels last; then the rival's, channels first.
    assert strides == [(24, 8, 1)] * 4 + [(24, 3, 1)] * 4


def test_reference_equals_itself_in_all_tensors():
    case = ParityCase(MIXER, seqlen=4, scored=True)
    inputs = draw_inputs(case, CPU)
    found = results(case, inputs, 'reference')
    assert {'out', 'x', 'z', 'f_A_log', 'b_D', 'scores'} <= set(found)


@pytest.mark.parametrize('op', [SCAN, CONV])
def test_ends_of_a_huge_tensor_have_the_gradients_of_the_whole(op):
    case = ParityCase(op, 5, 4, 9, 3)
    inputs = draw_plain(case, CPU)
    ends = _ends(5, 1), _ends(9, 2)
    picked = _pick(inputs, ends)
    grad = torch.randn(2, 4, 4)
    whole = _pick(_run(case, inputs, grad, 'reference', ends), ends)
    part = _run(case, picked, grad)
    assert whole.keys() == part.keys()
    for name, value in part.items():
        assert relative_rms(whole[name], value) < 1e-6, name


def test_ends_that_meet_are_one():
    assert _ends(4, 2) == [slice(0, 4)]
    assert _ends(5, 2) == [slice(0, 2), slice(3, 5)]
