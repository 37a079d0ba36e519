from __future__ import annotations

import pytest
import torch

from mmscope.benchmark.grid import Limits
from mmscope.benchmark.growth import (
    Curve,
    Growth,
    GrowthFile,
    expected_seconds,
    fit_exponent,
    growth_section,
    thread_counts,
)
from mmscope.benchmark.subjects import Subject, Subjects

from .conftest import CPU

X = [196, 576, 1024, 4096, 16384]


@pytest.mark.parametrize('power', [0.5, 1.0, 2.0])
def test_a_known_power_is_recovered(power):
    assert fit_exponent(X, [3 * x**power for x in X]) == pytest.approx(power)


def test_what_was_not_measured_does_not_bend_the_fit():
    assert fit_exponent(X, [None, *X[1:-1], 0]) == pytest.approx(1.0)
    assert fit_exponent([1], [1]) is None


def test_fixed_costs_show_at_few_tokens_only():
    curve = Curve('tokens', 'ViM', X, [1000 + x for x in X], X).fitted()
    assert curve.time_exponent < curve.time_exponent_large < 1
    assert curve.memory_exponent_large == pytest.approx(1.0)


def curve(*points):
    x, ms = [x for x, _ in points], [y for _, y in points]
    return Curve('tokens', 'ViM', x, ms)


def test_what_comes_next_is_feared_to_be_quadratic():
    assert expected_seconds(curve(), 100) == 0
    assert expected_seconds(curve((10, 1e3)), 100) == pytest.approx(100)
    found = expected_seconds(curve((10, 1e3), (20, 2e3)), 200)
    assert found == pytest.approx(20)


def test_points_over_the_budget_are_not_begun(clock):
    def quadratic(side):
        seconds = 5e-3 * (side / 16) ** 4

        def make(batch):
            return lambda: clock.sleep(seconds)

        return Subjects([Subject('square', 'square', make)])

    growth = Growth('tiny', quadratic, Limits(CPU, 3, budget_s=5.0))
    # 1, 4 and a million tokens: the last would take a hundred years.
    growth.tokens((16, 32, 16384))
    assert clock.now < 10
    result = growth.result()
    (found,) = result.curves
    assert found.x == [1, 4]
    assert found.time_exponent == pytest.approx(2)
    assert result.skipped[-1].x == 1024**2
    assert 'expected from the points before' in result.skipped[-1].reason
    text = growth_section(GrowthFile(result, {}))
    assert 'skipped: square, tokens' in text


def test_threads_are_given_back():
    before = torch.get_num_threads()
    seen = []

    def build(side):
        def make(batch):
            return lambda: seen.append(torch.get_num_threads())

        return Subjects([Subject('any', 'any', make)])

    growth = Growth('tiny', build, Limits(CPU, 1))
    growth.threads([1, 2])
    assert torch.get_num_threads() == before
    assert set(seen) == {1, 2}


@pytest.mark.parametrize(
    ('most', 'counts'), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6])]
)
def test_threads_double_up_to_those_there_are(most, counts):
    assert thread_counts(most) == counts
