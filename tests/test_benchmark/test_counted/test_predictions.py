from __future__ import annotations

import pytest

from mmscope.benchmark.counted import predictions
from mmscope.benchmark.counted.predictions import (
    Card,
    Kernel,
    Work,
    launch_seconds,
    predict,
)

# Four schedulers, a cycle a second, a byte a second.
SLOW = Card(1, 1.0, 1.0, 10.0, 50)
GAP = predictions.LAUNCH_SECONDS


def seconds(launch, registers=32, **per_token):
    launch = Work(
        **dict(kernel='a', programs=8, tokens=10, bytes=0, scratch=0) | launch
    )
    kernel = Kernel('a', 90, 32, registers, 0, 0, per_token)
    return launch_seconds(SLOW, launch, kernel)


def test_issue_slots_bind_where_warps_share_a_scheduler():
    # Two warps a scheduler, ten tokens, six instructions each: but a warp
    # alone would take as long, since it issues every second cycle.
    counts = {'multiply-adds': 6}
    assert seconds({'programs': 16}, **counts)[1] == 'issue slots'
    assert seconds({'programs': 16}, **counts)[0] == pytest.approx(240 + GAP)


def test_an_exponential_takes_eight_cycles():
    counts = {'multiply-adds': 6, 'exponentials': 2}
    time, limit = seconds({}, **counts)
    assert (time, limit) == (pytest.approx(2 * 10 * 16 + GAP), 'exponentials')


def test_bytes_bind_where_they_take_longest():
    counts = {'multiply-adds': 1}
    assert seconds({'bytes': 1000}, **counts)[1] == 'bytes'
    assert seconds({'bytes': 1000}, **counts)[0] == pytest.approx(1000 + GAP)
    # What fits into half the cache moves at its rate.
    assert seconds({'bytes': 24}, **counts)[1] != 'bytes'


def test_few_programs_and_many_registers_are_named():
    counts = {'multiply-adds': 6}
    assert seconds({'programs': 2}, **counts)[1] == 'too few programs'
    # One warp a scheduler; 512 registers a thread would leave no room for two.
    assert seconds({'programs': 4}, **counts)[1] == 'latency'
    assert seconds({'programs': 8}, **counts)[1] == 'issue slots'
    assert seconds({'programs': 8}, 512, **counts)[1] == 'latency'


def test_predictions_cover_every_shape_on_every_card():
    shapes = len(predictions.BATCHES) * len(predictions.LENGTHS)
    for card in predictions.CARDS:
        rows = predict(card, predictions.read_counts())
        assert len(rows) == 3 * shapes
        for row in rows:
            assert row.milliseconds > 0
            assert row.limit
