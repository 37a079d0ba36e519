"""What the matrix unit's sums lose is measured on the right terms."""

import pytest
import torch

from mmscope.ops import selective_scan
from mmscope.testing import assert_close, doubled, scan_inputs

from .conftest import load_tool

tf32_sums = load_tool('analysis_tools/tf32_sums.py')


def test_ten_bits_of_the_fraction_are_left_toward_zero():
    x = torch.tensor([1 + 2**-10, 1 + 2**-11, -(1 + 2**-10 + 2**-12), 0.0])
    assert tf32_sums.cut(x).tolist() == [
        *(1 + 2**-10, 1.0, -(1 + 2**-10)),
        0.0,
    ]


def test_sums_of_the_terms_are_the_gradients():
    inputs = doubled(scan_inputs(batch=1, seqlen=5, dim=3, d_state=2))
    for name in ('D', 'z'):
        del inputs[name]
    grad = torch.randn(1, 5, 3).double()
    leaves = {k: v.clone().requires_grad_() for k, v in inputs.items()}
    selective_scan(
        **leaves, delta_softplus=True, backend='reference'
    ).backward(grad)
    terms = tf32_sums.channel_terms(inputs, grad[0])
    for name, found in terms.items():
        expected = leaves[name].grad[0]
        assert_close(name, found.sum(-1), expected, torch.float32)


def test_bfloat16_loses_more_than_the_matrix_unit(capsys):
    tf32_sums.main(['--dim', '64', '--seqlen', '9'])
    rows = [
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in capsys.readouterr().out.splitlines()[2:]
    ]
    assert [row[:2] for row in rows] == [
        [name, sums] for name in 'BC' for sums in ('before', 'after')
    ]
    for before, after in (rows[:2], rows[2:]):
        assert float(before[2]) < 1e-6 < float(after[2]) < 1e-3
        assert float(after[3]) < 1.2 * float(before[3])


def test_a_width_that_fills_no_programs_is_refused(capsys):
    with pytest.raises(SystemExit):
        tf32_sums.main(['--dim', '33'])
    assert 'multiple of 32, got 33' in capsys.readouterr().err
