"""Who runs with whom, without a model."""

import pytest

pytest.importorskip('mmcv', reason='needs a host')

from mmscope.inference.reading import ImageFailure
from mmscope.inference.refill import Refill
from mmscope.inference.waiting import COARSE, FINE, PREDICT, Waiting

BATCHES = {COARSE: 2, FINE: 2, PREDICT: 2}


def refill(**options):
    options = {'max_waiting': 9, 'max_wait': None, 'serving': False, **options}
    return Refill(None, BATCHES, **options)


def waiting(stage, arrived=0.0):
    return Waiting(None, arrived, stage)


@pytest.mark.parametrize('limit', [{'max_wait': 0.001}, {'max_waiting': 1}])
def test_a_failure_alone_needs_no_batch(limit):
    images = refill(**limit)
    failed = Waiting.of(None, 0.0, COARSE, ImageFailure('a', 'damaged'))
    images.add(failed)
    assert images.due() == []
    assert list(images.finished()) == [failed]


def test_the_last_stage_that_is_full_runs_first():
    images = refill()
    stages = [PREDICT, PREDICT, FINE, FINE, COARSE, COARSE]
    for stage in stages:
        images.add(waiting(stage))
    for stage in (PREDICT, FINE, COARSE):
        batch = images.due()
        assert [one.stage for one in batch] == [stage, stage]
        for one in batch:
            one.end('result')


def test_the_first_stage_runs_first_when_no_image_follows():
    images = refill()
    for stage in (FINE, COARSE):
        images.add(waiting(stage))
    assert images.due() == []
    assert [one.stage for one in images.due(ending=True)] == [COARSE]


def test_who_waited_too_long_goes_before_full_batches():
    images = refill(max_wait=0.001)
    for stage in (FINE, COARSE, COARSE):
        images.add(waiting(stage))
    assert [one.stage for one in images.due()] == [FINE]
