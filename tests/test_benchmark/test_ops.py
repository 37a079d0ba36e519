from __future__ import annotations

import pytest
import torch

from mmscope import ops
from mmscope.benchmark.ops import (
    benchmark_ops,
    copying,
    discretised_scan,
    ops_section,
)
from mmscope.ops.reference import selective_scan_reference
from mmscope.testing import assert_close, scan_inputs


def test_the_usual_loop_computes_the_same_scan():
    inputs = scan_inputs()
    expected = selective_scan_reference(**inputs, delta_softplus=True)
    actual = discretised_scan(**inputs)
    assert_close('scan', actual, expected, torch.float32)


@pytest.mark.skipif(
    ops.why_unavailable('cpu') is not None, reason='no compiled operators'
)
def test_every_operator_and_pass_has_a_row_with_ratios():
    rows = benchmark_ops(1, ((1, 5, 8, 2),))
    assert list(dict.fromkeys((row.op, row.run) for row in rows)) == [
        (op, run)
        for op in ('selective_scan', 'causal_conv1d', 'mixer')
        for run in ('forward', 'training')
    ]
    for row in rows:
        (first,) = [
            x.milliseconds
            for x in rows
            if (x.op, x.run, x.rival) == (row.op, row.run, 'cpu')
        ]
        assert row.ratio == pytest.approx(row.milliseconds / first)
        assert row.first == 'cpu'
    assert 'discretised loop' in ops_section(rows)


def test_floor_of_a_scan_moves_its_three_inputs_and_its_output(monkeypatch):
    inputs = scan_inputs()
    moved = []
    copy = torch.Tensor.copy_

    def counted(target, source):
        moved.append(2 * source.numel())
        return copy(target, source)

    monkeypatch.setattr(torch.Tensor, 'copy_', counted)
    copying(inputs)()
    assert sum(moved) == 4 * inputs['u'].numel()
