"""Thresholds, mixtures and orders on numbers that fit in the head."""

import numpy as np
import pytest

from mmscope.evaluation.confidence_quality import (
    compare_kinds,
    confidence_quality,
    correlations,
    order_quality,
)
from mmscope.evaluation.curves import (
    NOBODY_EXITS,
    curve_rows,
    quantile_thresholds,
)
from mmscope.evaluation.endpoint_images import BothEnds
from mmscope.evaluation.gated_scores import AdditiveScore


class Accuracy(AdditiveScore):
    """Top-1: an image is (right, 1). Not segmentation on purpose."""

    name = 'top1'

    def total(self, statistics):
        return 100 * statistics[..., 0] / statistics[..., 1]

    def per_image(self, statistics):
        return {'top1': 100.0 * statistics[:, 0]}

    def extras(self, statistics):
        return {'wrong': 100 - self.total(statistics)}


def both_ends(confidence, coarse, fine, **kinds):
    number = len(coarse)
    ones = np.ones(number, dtype=int)
    return BothEnds(
        names=[str(i) for i in range(number)],
        confidence=np.array(confidence),
        scored=Accuracy().gather(
            np.stack([coarse, ones], 1), np.stack([fine, ones], 1)
        ),
        exit_tokens=10 * ones,
        full_tokens=50 * ones,
        exit_macs=1e9 * ones,
        full_macs=4e9 * ones,
        exit_shared=6e9 * ones,
        full_shared=7e9 * ones,
        kinds=kinds,
    )


# Images 0 and 1 are right early; 2 is won by refinement, 3 is lost by it.
ENDS = both_ends([0.9, 0.8, 0.3, 0.6], [1, 1, 0, 1], [1, 1, 1, 0])


def test_thresholds_split_the_images_evenly():
    confidence = np.linspace(0.5, 1.0, 101)
    thresholds = quantile_thresholds(confidence, 4)
    exits = [int((confidence >= t).sum()) for t in thresholds]
    assert exits == [101, 81, 61, 40, 20, 0]
    assert (thresholds[0], thresholds[-1]) == (0.0, NOBODY_EXITS)


def test_thresholds_lie_between_confidences():
    thresholds = quantile_thresholds(np.array([0.0, 0.0, 0.5, 0.75]), 9)
    assert thresholds == [0.0, 0.25, 0.625, NOBODY_EXITS]


def test_equal_confidences_leave_the_two_ends():
    assert quantile_thresholds(np.full(5, 0.7), 3) == [0.0, NOBODY_EXITS]


def test_bad_thresholds_are_refused():
    with pytest.raises(ValueError, match='NaN'):
        quantile_thresholds(np.array([0.5, np.nan]), 3)
    with pytest.raises(ValueError, match='at least 0, got -1'):
        quantile_thresholds(np.array([0.5]), -1)


def test_curve_by_hand():
    thresholds = [0.0, 0.45, 0.7, NOBODY_EXITS]
    rows = curve_rows(ENDS, thresholds, num_draws=4)
    assert [row['exit_ratio'] for row in rows] == [1.0, 0.75, 0.5, 0.0]
    assert [row['top1'] for row in rows] == [75, 100, 75, 75]
    assert [row['wrong'] for row in rows] == [25, 0, 25, 25]
    assert [row['oracle'] for row in rows] == [75, 100, 100, 75]
    assert [row['mean_tokens'] for row in rows] == [10, 20, 30, 50]
    assert [row['backbone_cost'] for row in rows] == [1, 1.75, 2.5, 4]
    assert [row['mean_cost'] for row in rows] == [7, 8, 9, 11]
    assert [row['exited'] for row in rows] == [75, 100, 100, None]
    assert rows[1]['exited_if_refined'] == pytest.approx(200 / 3)
    assert [row['refined'] for row in rows] == [None, 100, 50, 75]


def test_random_exits_are_as_many_and_seeded():
    rng = np.random.default_rng(3)
    fine = (rng.random(400) < 0.8).astype(int)
    ends = both_ends(rng.random(400), np.zeros(400, int), fine)
    first = curve_rows(ends, [0.25, 0.0], num_draws=200, seed=5)
    again = curve_rows(ends, [0.25, 0.0], num_draws=200, seed=5)
    assert first == again
    row, everyone = first
    expected = 100 * fine.mean() * (1 - row['exit_ratio'])
    assert row['random'] == pytest.approx(expected, abs=0.5)
    assert 0.1 < row['random_std'] < 3
    assert (everyone['random'], everyone['random_std']) == (0, 0)


def test_without_a_draw_nothing_is_compared():
    with pytest.raises(ValueError, match='num_draws is at least 1, got 0'):
        curve_rows(ENDS, [0.5], num_draws=0)


def test_order_quality_is_one_for_the_oracle_and_negative_when_reversed():
    rng = np.random.default_rng(0)
    coarse, fine = rng.integers(0, 2, (2, 60))
    gain = fine - coarse + 0.1 * rng.random(60)

    def quality(confidence):
        ends = both_ends(confidence, coarse, fine)
        steps = quantile_thresholds(confidence, 8)
        rows = curve_rows(ends, steps, num_draws=200)
        return order_quality(rows, 'top1')

    knowing = (1.2 - gain) / 3
    assert quality(knowing) > 0.95
    assert quality(1 - knowing) < -0.5
    assert abs(quality(rng.random(60))) < 0.4


def test_order_cannot_matter_without_any_gain():
    same = np.array([1, 0, 1])
    ends = both_ends([0.2, 0.5, 0.9], same, same)
    rows = curve_rows(ends, [0.0, 0.4, 2.0])
    assert order_quality(rows, 'top1') is None


def test_useful_confidence_correlates_negatively_with_the_gain():
    found = confidence_quality(ENDS)['top1']
    # Gains are 0, 0, 100, -100; confidences 0.9, 0.8, 0.3, 0.6.
    assert found['mean_gain'] == 0
    assert found['gain']['pearson'] == pytest.approx(-0.4629, abs=1e-4)
    assert found['gain']['spearman'] == pytest.approx(-0.3162, abs=1e-4)
    assert found['coarse_score']['pearson'] > 0


def test_kinds_of_confidence_are_compared_on_the_same_images():
    rng = np.random.default_rng(1)
    coarse, fine = rng.integers(0, 2, (2, 80))
    knowing = 0.5 - (fine - coarse + 0.1 * rng.random(80)) / 3
    ends = both_ends(
        rng.random(80), coarse, fine, knowing=knowing, blind=1 - knowing
    )
    first, second = compare_kinds(ends)
    assert (first['kind'], second['kind']) == ('knowing', 'blind')
    assert first['order_quality'] > 0.9
    assert second['order_quality'] < -0.5
    assert first['pearson'] == pytest.approx(-second['pearson'])
    assert first['spearman'] < -0.7


def test_correlations():
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert correlations(x, x**3) == {
        'pearson': pytest.approx(0.9514, abs=1e-4),
        'spearman': pytest.approx(1.0),
    }
    ties = correlations(np.array([1, 1, 2, 2]), np.array([0, 1, 1, 0]))
    assert ties == {'pearson': pytest.approx(0), 'spearman': pytest.approx(0)}
    assert correlations(x, np.ones(4))['pearson'] is None
