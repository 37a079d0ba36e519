from __future__ import annotations

import contextlib
import time
from types import SimpleNamespace

import pytest

from mmscope.benchmark.gpu import graphs
from mmscope.benchmark.gpu.record import (
    DONE,
    FAILED,
    OUT_OF_TIME,
    SKIPPED,
    Record,
    Skip,
)
from mmscope.benchmark.gpu.steps import (
    Part,
    Poisoned,
    Step,
    is_fatal,
    run_parts,
)

from .conftest import CPU

SCALE = SimpleNamespace(device=CPU, patience=1.0)
ILLEGAL = 'CUDA error: an illegal memory access was encountered'


def raising(error):
    def run(left):
        raise error

    return run


def works(left):
    return [{'left': left}]


def do(record, *parts, seconds=60.0):
    run_parts(parts, SCALE, record, time.time() + seconds)
    return {(x.part, x.step): x for x in record.outcomes}


def part(*steps, name='part', budget_s=30.0):
    return Part(name, name, budget_s, lambda scale: steps)


def test_a_failing_step_is_recorded_and_the_next_one_runs(record):
    found = do(
        record,
        part(
            Step('bad', raising(ValueError('wrong shape'))),
            Step('absent', raising(Skip('no nvcc here'))),
            Step('full', raising(RuntimeError('CUDA out of memory. Tried'))),
            Step('good', works),
        ),
    )
    states = {step: x.state for (_, step), x in found.items()}
    assert states == {
        'bad': FAILED,
        'absent': SKIPPED,
        'full': FAILED,
        'good': DONE,
    }
    assert 'Traceback' in found['part', 'bad'].reason
    assert found['part', 'absent'].reason == 'no nvcc here'
    assert found['part', 'full'].reason.startswith('out of memory')


def test_steps_that_have_an_outcome_are_not_run_again(record):
    do(record, part(Step('one', works)))
    do(record, part(Step('one', raising(ValueError)), Step('two', works)))
    states = [x.state for x in Record.read(record.path).outcomes]
    assert states == [DONE, DONE]


def test_a_part_that_cannot_be_listed_does_not_stop_the_others(record):
    broken = Part('broken', '', 9.0, raising(ImportError('mmpretrain')))
    found = do(record, broken, part(Step('good', works)))
    assert found['broken', 'prepare'].state == FAILED
    assert found['part', 'good'].state == DONE


def test_each_part_has_its_own_time(record):
    def slow(left):
        time.sleep(0.6)
        return []

    steps = [Step('slow', slow), Step('late', works)]
    found = do(record, part(*steps, budget_s=1.5), part(*steps, name='next'))
    assert found['part', 'late'].state == OUT_OF_TIME
    assert found['next', 'late'].state == DONE


def test_nothing_begins_when_the_whole_time_is_over(record):
    found = do(record, part(Step('one', works)), seconds=0.0)
    assert found['part', 'one'].state == OUT_OF_TIME


def test_a_lost_gpu_is_recorded_and_asks_for_another_process(record):
    steps = (Step('bad', raising(RuntimeError(ILLEGAL))), Step('good', works))
    with pytest.raises(Poisoned, match='bad'):
        do(record, part(*steps))
    assert [x.step for x in record.outcomes] == ['bad']
    # What another process does.
    found = do(Record.read(record.path), part(*steps))
    assert found['part', 'good'].state == DONE


def loses(error=None, way_out=False):
    """Lose a recording, unless it was told not to record."""

    def run(left):
        if way_out and graphs.process.forbidden:
            return [{'reason': graphs.process.forbidden}]
        graphs.process.lost = True
        if error:
            raise error
        return [{'left': left}]

    return run


def test_a_lost_recording_asks_for_another_process(record, new_process):
    steps = (Step('bad', loses()), Step('good', works))
    with pytest.raises(Poisoned, match='bad: a recording failed'):
        do(record, part(*steps))
    # What was measured without it counts.
    assert [(x.step, x.state) for x in record.outcomes] == [('bad', DONE)]
    new_process()
    found = do(Record.read(record.path), part(*steps))
    assert found['part', 'good'].state == DONE


def test_what_fails_with_a_recording_is_tried_without_once(
    record, new_process
):
    error = RuntimeError('Offset increment outside graph capture')
    steps = (
        Step('one', loses(error, way_out=True)),
        Step('two', loses(error)),
        Step('good', works),
    )
    while True:
        new_process()
        try:
            found = do(Record.read(record.path), part(*steps))
            break
        except Poisoned:
            continue
    assert found['part', 'one'].state == DONE
    assert 'the first time' in found['part', 'one'].rows[0]['reason']
    assert found['part', 'two'].state == FAILED
    assert found['part', 'good'].state == DONE


def test_recording_is_given_up_when_it_fails_again_and_again(
    record, new_process
):
    names = [f'step {i}' for i in range(6)]
    steps = [Step(name, loses(way_out=True)) for name in names]
    processes = 0
    while len(record.outcomes) < len(names):
        new_process()
        processes += 1
        with contextlib.suppress(Poisoned):
            do(record, part(*steps))
    assert processes == 4
    reasons = [x.rows[0].get('reason') for x in record.outcomes]
    assert reasons == [None] * 3 + ['not recorded: 3 recordings failed'] * 3


def test_a_gpu_that_is_found_lost_between_steps_asks_for_another_process(
    record, monkeypatch
):
    device = SimpleNamespace(type='cuda')

    def lost():
        raise RuntimeError(ILLEGAL)

    monkeypatch.setattr('torch.cuda.empty_cache', lost)
    scale = SimpleNamespace(device=device, patience=1.0)
    with pytest.raises(Poisoned, match='illegal memory access'):
        run_parts([part(Step('one', works))], scale, record, time.time() + 9)
    assert record.find('part', 'one').state == DONE


@pytest.mark.parametrize(
    ('text', 'fatal'),
    [
        (ILLEGAL, True),
        ('CUDA error: misaligned address', True),
        ('Offset increment outside graph capture encountered', True),
        ('CUDA out of memory. Tried to allocate 2.00 GiB', False),
        ('mat1 and mat2 shapes cannot be multiplied', False),
    ],
)
def test_what_takes_the_gpu_from_a_process(text, fatal):
    assert is_fatal(RuntimeError(text)) is fatal
