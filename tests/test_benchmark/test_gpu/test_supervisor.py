from __future__ import annotations

import sys
import time

import pytest

from mmscope.benchmark.gpu import supervisor
from mmscope.benchmark.gpu.record import (
    DONE,
    FAILED,
    OUT_OF_TIME,
    Outcome,
    Record,
)
from mmscope.benchmark.gpu.supervisor import Order, open_record, run

SETTING = dict(device='card', source='abc', torch='2', dry_run=False)
# A worker of a few lines: what a real one does to the file.
PRELUDE = """
import os, sys, time, types
package = types.ModuleType('mmscope')
package.__path__ = [{root!r} + '/mmscope']
sys.modules['mmscope'] = package
from mmscope.benchmark.gpu.record import DONE, Outcome, Record
record = Record.read(sys.argv[1])
done = {{x.step for x in record.outcomes}}
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Run a program in place of the worker."""

    def begin(body, total_s=60.0):
        program = PRELUDE.format(root=str(supervisor.ROOT)) + body
        monkeypatch.setattr(
            supervisor,
            'command',
            lambda order, deadline: [
                *(sys.executable, '-c', program, str(order.path)),
            ],
        )
        order = Order(tmp_path / 'f.json', SETTING, ['ops'], total_s=total_s)
        said = []
        record = run(order, said.append)
        return {x.step: x for x in record.outcomes}, said

    return begin


def test_a_worker_that_dies_is_replaced_and_its_step_blamed(start):
    found, said = start(
        """
if 'bad' not in done:
    record.begin('ops', 'bad', 30.0)
    os._exit(139)
record.put(Outcome('ops', 'good', DONE, 0.1))
"""
    )
    assert found['bad'].state == FAILED
    assert 'ended with status 139' in found['bad'].reason
    assert found['good'].state == DONE


def test_a_worker_that_hangs_is_ended(start):
    found, said = start(
        """
if 'bad' not in done:
    record.begin('ops', 'bad', 0.2)
    time.sleep(60)
record.put(Outcome('ops', 'good', DONE, 0.1))
"""
    )
    assert found['bad'].state == OUT_OF_TIME
    assert found['good'].state == DONE
    assert 'takes more than' in said[0]


def test_the_whole_time_is_kept(start):
    begin = time.time()
    found, said = start(
        "record.begin('ops', 'bad', 60.0)\ntime.sleep(60)", total_s=5.0
    )
    assert time.time() - begin < 40
    assert found['bad'].state == OUT_OF_TIME


def test_a_worker_that_cannot_begin_is_not_tried_again(start):
    found, said = start('sys.exit(3)')
    assert found == {}
    assert said == ['a worker ended with status 3 before it began a step']


def test_a_worker_that_dies_between_steps_is_replaced(start):
    found, said = start(
        """
if 'one' not in done:
    record.put(Outcome('ops', 'one', DONE, 0.1))
    os._exit(139)
record.put(Outcome('ops', 'two', DONE, 0.1))
"""
    )
    assert [x.state for x in found.values()] == [DONE, DONE]
    assert said == ['a worker ended with status 139 between two steps']


def test_a_rerun_keeps_what_was_done_here(tmp_path):
    order = Order(tmp_path / 'f.json', SETTING, ['ops'])
    record = Record(order.path, SETTING)
    for step, state in (('one', DONE), ('two', FAILED)):
        record.put(Outcome('ops', step, state, 1.0))
    assert [x.step for x in open_record(order).outcomes] == ['one']
    again = Order(order.path, SETTING, ['ops'], again=True)
    assert open_record(again).outcomes == []
    assert Record.read(tmp_path / 'f-abc.json').outcomes


def test_results_of_another_card_or_code_are_kept_under_another_name(
    tmp_path,
):
    order = Order(tmp_path / 'f.json', SETTING, ['ops'])
    olds = [SETTING | {'device': 'another'}, SETTING | {'source': 'old'}]
    for old in (*olds, *olds):
        record = Record(order.path, old)
        record.put(Outcome('ops', old['device'], DONE, 1.0))
        assert open_record(order).outcomes == []
    names = {x.name for x in tmp_path.iterdir()}
    assert names == {
        *('f.json', 'f-abc.json', 'f-abc-2.json'),
        *('f-old.json', 'f-old-2.json'),
    }
    kept = Record.read(tmp_path / 'f-abc.json')
    assert [x.step for x in kept.outcomes] == ['another']
    # A file in which nothing was found yet is not kept.
    open_record(Order(order.path, SETTING, ['ops'], again=True))
    assert {x.name for x in tmp_path.iterdir()} == names
