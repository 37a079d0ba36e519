from __future__ import annotations

import pytest
import torch

from mmscope.benchmark.timed_training.schedule import Schedule, schedule_of
from mmscope.errors import UserError

WARM = dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=30)
COSINE = dict(type='CosineAnnealingLR', eta_min=1e-5, begin=30, end=300)


def test_it_is_the_schedule_of_the_config_at_its_own_length():
    from mmengine.optim import CosineAnnealingLR, LinearLR

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1e-3)
    schedulers = [
        LinearLR(optimizer, 1e-3, by_epoch=False, end=30),
        CosineAnnealingLR(
            optimizer, eta_min=1e-5, by_epoch=False, begin=30, end=300
        ),
    ]
    mine = schedule_of([WARM, COSINE], 1e-3)
    for step in range(299):
        rate = optimizer.param_groups[0]['lr']
        # The hosts' warm-up ends a step earlier.
        expected = pytest.approx(rate, rel=0.05)
        assert 1e-3 * mine.factor(step / 300) == expected, step
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


def test_another_length_has_the_same_shape():
    schedule = Schedule(0.1, 0.0, 0.01)
    assert schedule.factor(0.05) == pytest.approx(0.5)
    assert schedule.factor(0.1) == 1
    assert schedule.factor(1.0) == pytest.approx(0.01)
    assert schedule.factor(1.5) == schedule.factor(1.0)


@pytest.mark.parametrize(
    'schedulers',
    [[COSINE], [WARM, dict(type='MultiStepLR', milestones=[1])], []],
)
def test_other_schedules_are_refused(schedulers):
    with pytest.raises(UserError, match='can be stretched if it is LinearLR'):
        schedule_of(schedulers, 1e-3)
