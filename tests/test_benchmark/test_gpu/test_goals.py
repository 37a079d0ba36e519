from __future__ import annotations

import pytest

from mmscope.benchmark.gpu.goals import MISSED, OPEN, REACHED, goals
from mmscope.benchmark.gpu.op_grid import OpRow
from mmscope.benchmark.gpu.parity import TensorRow
from mmscope.benchmark.gpu.record import DONE, FAILED, OUT_OF_TIME, Outcome
from mmscope.benchmark.gpu.report import (
    measured_section,
    operators_table,
    summary,
    tensors_table,
)
from mmscope.benchmark.grid_rows import GridRow

CELL = dict(arch='small', resolution=224, batch=64)


def found(record):
    return {goal.name: goal for goal in goals(record)}


def speeds(part, cell=CELL, **images_per_s):
    rows = [
        GridRow(
            **cell,
            subject=name,
            images_per_s=value,
            images_per_s_iqr=(value, value),
            latency_ms_p50=1.0,
        )
        for name, value in images_per_s.items()
    ]
    return Outcome(part, str(cell), DONE, 1.0, rows)


def tensor(ok=True, **values):
    row = dict(op='scan', dtype='float32', case='scan 1', tensor='u')
    return TensorRow(**row | dict(error=1e-7, limit=2e-6, ok=ok) | values)


def test_nothing_measured_leaves_every_goal_open(record):
    assert {goal.verdict for goal in goals(record)} == {OPEN}
    assert measured_section(record) == 'Not measured: no GPU was at hand.'


@pytest.mark.parametrize(('speed', 'verdict'), [(160, REACHED), (140, MISSED)])
def test_ratios_are_held_against_the_goal(record, speed, verdict):
    rows = {'ViM, selective_scan_cuda': 100, 'ViM': speed}
    record.put(speeds('training', **rows))
    goal = found(record)['ViM-S, batch 64: training over mamba-ssm']
    assert goal.measured == pytest.approx(speed / 100)
    assert goal.verdict == verdict


def test_the_missing_rival_is_named(record):
    record.put(speeds('models', **{'ViM': 10, 'MambaScope 50 %': 15}))
    goal = found(record)['ViM-S, batch 64: forward over mamba-ssm']
    assert goal.verdict == OPEN
    assert goal.note == 'without ViM, selective_scan_cuda'
    goal = found(record)['MambaScope-S at 50 % exits over ViM-S']
    assert goal.verdict == REACHED


def test_one_wrong_tensor_and_one_failed_step_miss_parity(record):
    title = 'share of tensors that equal the reference'
    record.put(Outcome('parity', 'a', DONE, 1.0, [tensor(), tensor()]))
    assert found(record)[title].verdict == REACHED
    record.put(Outcome('parity', 'b', FAILED, 1.0, [], 'Traceback'))
    assert found(record)[title].verdict == MISSED
    assert found(record)[title].note == 'b (failed)'
    record.put(Outcome('parity', 'b', DONE, 1.0, [tensor(ok=False)]))
    assert found(record)[title].note == 'scan 1: u'


def test_what_found_no_time_is_named_but_not_wrong(record):
    title = 'share of tensors that equal the reference'
    record.put(Outcome('parity', 'late', OUT_OF_TIME, 0.0))
    assert found(record)[title].verdict == OPEN
    record.put(Outcome('parity', 'a', DONE, 1.0, [tensor(), tensor()]))
    goal = found(record)[title]
    assert (goal.verdict, goal.measured) == (REACHED, 1.0)
    assert goal.note == 'late (out of time)'
    record.put(Outcome('parity', 'b', FAILED, 1.0, [], 'Traceback'))
    goal = found(record)[title]
    # Two tensors and two steps, of which one failed.
    assert goal.measured == pytest.approx(3 / 4)
    assert goal.note == 'b (failed); late (out of time)'


def test_shares_are_told_for_each_batch(record):
    rows = [
        GridRow(**CELL, subject='MambaScope 50 %', exit_share_won=0.85),
        GridRow(
            **CELL | {'batch': 1},
            subject='MambaScope 50 %',
            exit_share_won=0.5,
        ),
    ]
    record.put(Outcome('gated', 'one', DONE, 1.0, rows))
    name = 'share of the saving won at 50 % exits, batch'
    assert found(record)[f'{name} 64'].verdict == REACHED
    assert found(record)[f'{name} 1'].verdict == MISSED


def test_an_operator_stands_beside_its_prediction_and_rival():
    shape = dict(batch=1, seqlen=2, dim=3, d_state=4)
    base = dict(op='scan', run='forward', scored=False, **shape)
    rows = [
        OpRow(**base, rival='triton', us=20.0),
        OpRow(**base, rival='selective_scan_cuda', us=50.0),
        OpRow(**base, rival='copy of its bytes', us=5.0),
    ]
    line = operators_table(rows, lambda row: 10.0).splitlines()[-1]
    cells = [cell.strip() for cell in line.split('|')[1:-1]]
    assert cells == [
        *('scan', 'forward', '-', '1 x 2 x 3 x 4', '20.0', '10.0', '2.00'),
        *('5.0', '50.0', '2.50', 'selective_scan_cuda'),
    ]


def test_what_is_no_number_is_the_largest_error():
    rows = [tensor(), tensor(ok=False, error='nan', tensor='B')]
    line = tensors_table(rows).splitlines()[-1]
    assert 'inf' in line
    assert 'scan 1: B' in line


def test_the_section_names_card_commit_and_ceilings(record):
    record.setting = dict(device='H100', commit='abc', dry_run=False)
    record.put(Outcome('machine', 'copy', DONE, 1.0, [{'copy_tb_s': 3.0}]))
    row = {'product_tflop_s': 700.0}
    record.put(Outcome('machine', 'matrix product', DONE, 1.0, [row]))
    record.put(speeds('models', ViM=10.0))
    text = measured_section(record)
    assert 'Measured on H100 at commit abc: a copy moves 3.00 TB/s' in text
    assert '#### small, 224 px, batch 64' in text
    assert 'machine and versions' in summary(record)


def test_a_dry_run_is_no_measurement(record):
    record.setting = dict(device='cpu', commit='abc', dry_run=True)
    record.put(speeds('models', ViM=10.0))
    assert 'numbers below mean nothing' in measured_section(record)


def test_where_nobody_ran_the_reasons_stand(record):
    record.setting = dict(device='H100', commit='abc', dry_run=False)
    rows = [GridRow(**CELL, subject='ViM', reason='out of memory: 9 GiB')]
    record.put(Outcome('models', 'one', DONE, 1.0, rows))
    assert 'out of memory: 9 GiB' in measured_section(record)
