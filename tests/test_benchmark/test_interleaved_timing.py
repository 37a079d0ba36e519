from __future__ import annotations

import time

import pytest
import torch

from mmscope.evaluation.interleaved_timing import (
    Entry,
    Timing,
    time_interleaved,
    too_slow,
)

CPU = torch.device('cpu')


def test_rivals_take_turns_there_and_back():
    order = []
    entries = {n: Entry(lambda n=n: order.append(n)) for n in 'abc'}
    time_interleaved(entries, 2, CPU, warm_up=2)
    assert ''.join(order) == 'abccbaabccba'


def test_a_rival_slower_by_a_real_sleep_is_reported_slower():
    entries = {
        'fast': Entry(lambda: time.sleep(0.001)),
        'slow': Entry(lambda: time.sleep(0.05)),
    }
    result = time_interleaved(entries, 3, CPU, warm_up=0)
    fast, slow = (result.timings[n].summary(1) for n in ('fast', 'slow'))
    assert slow['images_per_s'] <= 1 / 0.05
    assert fast['images_per_s'] > slow['images_per_s']
    assert result.ratio('slow', 'fast')[1] > 1


def test_a_drifting_machine_favours_nobody(clock):
    # Each second, everything takes one percent longer.
    def work():
        clock.sleep(1.0 + 0.01 * clock.now)

    result = time_interleaved(
        {'first': Entry(work), 'last': Entry(work)}, 10, CPU
    )
    assert result.ratio('first', 'last')[1] == pytest.approx(1, abs=1e-3)


def test_one_slow_round_moves_neither_median_nor_quartiles():
    steady = Timing([[1.0]] * 8)
    hiccup = Timing([[1.0]] * 7 + [[100.0]])
    for key in ('images_per_s', 'images_per_s_iqr', 'latency_ms_p50'):
        assert hiccup.summary(4)[key] == steady.summary(4)[key]
    assert hiccup.summary(4)['latency_ms_p95'] > 1e3


def test_latency_is_of_forwards_and_speed_of_rounds():
    # A cycle of a cheap and a dear forward, as an exit ratio of a half at
    # batch 1 has.
    summary = Timing([[1.0, 3.0]] * 4).summary(1)
    assert summary['images_per_s'] == pytest.approx(1 / 2)
    assert summary['latency_ms_p95'] == pytest.approx(3e3)
    assert (summary['rounds'], summary['forwards']) == (4, 8)


def test_who_cannot_finish_is_skipped_with_a_reason_and_the_others_race(
    clock,
):
    entries = {
        'fast': Entry(lambda: clock.sleep(0.001)),
        'slow': Entry(lambda: clock.sleep(0.3)),
    }
    result = time_interleaved(entries, 5, CPU, budget_s=0.8)
    assert list(result.timings) == ['fast']
    assert 'over the time budget' in result.skipped['slow']


def test_the_slowest_go_first_and_only_until_the_others_fit():
    costs = {'a': 1.0, 'b': 5.0, 'c': 3.0}
    assert list(too_slow(costs, 2, left=9.0)) == ['b']
    assert list(too_slow(costs, 2, left=2.0)) == ['b', 'c']
    assert too_slow(costs, 2, left=18.0) == {}


def test_rounds_end_with_the_budget_but_not_before_three(clock):
    entry = {'one': Entry(lambda: clock.sleep(0.02))}
    result = time_interleaved(entry, 1000, CPU, budget_s=0.5, warm_up=2)
    # Two of the 25 forwards warm up, one more passes the limit.
    assert len(result.timings['one'].rounds) == pytest.approx(24, abs=1)
    result = time_interleaved(entry, 1000, CPU, budget_s=0.0, warm_up=0)
    assert len(result.timings['one'].rounds) == 3


def test_no_round_is_refused():
    with pytest.raises(ValueError, match='at least 1 round'):
        time_interleaved({}, 0, CPU)
