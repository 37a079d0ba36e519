from __future__ import annotations

import json

import pytest

from mmscope.benchmark.files import plain
from mmscope.benchmark.gpu.record import (
    DONE,
    FAILED,
    Outcome,
    Record,
)
from mmscope.benchmark.setting import is_same_setting


def test_what_was_put_is_read_again(record):
    record.begin('parity', 'one', 5.0)
    assert Record.read(record.path).running.step == 'one'
    record.put(Outcome('parity', 'one', DONE, 2.0, [{'error': 1e-7}]))
    found = Record.read(record.path)
    assert found.running is None
    assert found.rows('parity', dict) == [{'error': 1e-7}]


def test_a_later_outcome_replaces_that_of_the_same_step(record):
    record.put(Outcome('ops', 'one', FAILED, 2.0))
    record.put(Outcome('ops', 'one', DONE, 3.0))
    assert [x.state for x in Record.read(record.path).of('ops')] == [DONE]


def test_another_call_has_all_of_its_time(record):
    record.put(Outcome('ops', 'one', DONE, 30.0))
    record.put(Outcome('ops', 'two', FAILED, 20.0))
    assert record.spent('ops') == 50
    record.keep((DONE,))
    record.write()
    again = Record.read(record.path)
    assert [x.step for x in again.outcomes] == ['one']
    assert again.spent('ops') == 0
    again.put(Outcome('ops', 'two', DONE, 4.0))
    assert again.spent('ops') == 4


def test_numbers_that_json_lacks_have_names(record):
    assert plain({'a': [float('nan'), 1.5, float('inf')]}) == {
        'a': ['nan', 1.5, 'inf']
    }
    record.put(Outcome('ops', 'one', DONE, 1.0, [{'us': float('nan')}]))
    assert json.loads(record.path.read_text())


def test_nothing_but_the_file_is_left_behind(record):
    record.write()
    assert [x.name for x in record.path.parent.iterdir()] == ['found.json']


def test_another_file_is_refused(tmp_path):
    path = tmp_path / 'other.json'
    path.write_text('{"rows": []}')
    with pytest.raises(ValueError, match='is not the JSON of.*remove this'):
        Record.read(path)


@pytest.mark.parametrize('key', ['device', 'source', 'torch', 'dry_run'])
def test_results_of_other_cards_and_code_do_not_mix(key):
    setting = dict(device='a', source='b', torch='c', dry_run=False, load=1)
    assert is_same_setting(setting, setting | {'load': 2})
    assert not is_same_setting(setting, setting | {key: 'another'})
