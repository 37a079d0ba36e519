"""Thresholds, gated scores and orders on numbers that fit in the head."""

import numpy as np
import pandas as pd
import pytest

from mmscope.evaluation.confidence_quality import (
    compare_kinds,
    correlations,
    order_quality,
    score_correlations,
)
from mmscope.evaluation.curves import (
    NOBODY_EXITS,
    curve,
    operating_point,
    quantile_thresholds,
)
from mmscope.evaluation.endpoint_images import EndpointImages
from mmscope.evaluation.gated_scores import AdditiveScore


class Accuracy(AdditiveScore):
    """Top-1: an image is (right, 1). Not segmentation on purpose."""

    name = 'top1'

    def total(self, statistics):
        return 100 * statistics[..., 0] / statistics[..., 1]

    def per_image(self, statistics):
        return pd.DataFrame({'top1': 100.0 * statistics[:, 0]})

    def extras(self, statistics):
        return {'wrong': 100 - self.total(statistics)}


def endpoint_images(confidence, coarse, fine, **kinds):
    number = len(coarse)
    ones = np.ones(number, dtype=int)
    table = pd.DataFrame(
        {
            'name': [str(i) for i in range(number)],
            'confidence': confidence,
            'exit_tokens': 10,
            'full_tokens': 50,
            'exit_macs': 1e9,
            'full_macs': 4e9,
            'exit_shared': 6e9,
            'full_shared': 7e9,
        }
    )
    scored = Accuracy().gather(
        np.stack([coarse, ones], 1), np.stack([fine, ones], 1)
    )
    return EndpointImages(table, scored, pd.DataFrame(kinds))


# Images 0 and 1 are right early; 2 is won by refinement, 3 is lost by it.
IMAGES = endpoint_images([0.9, 0.8, 0.3, 0.6], [1, 1, 0, 1], [1, 1, 1, 0])


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
    rows = curve(IMAGES, [0.0, 0.45, 0.7, NOBODY_EXITS], num_draws=4)
    nothing = pytest.approx(np.nan, nan_ok=True)
    expected = {
        'exit_ratio': [1.0, 0.75, 0.5, 0.0],
        'top1': [75, 100, 75, 75],
        'wrong': [25, 0, 25, 25],
        'oracle': [75, 100, 100, 75],
        'mean_tokens': [10, 20, 30, 50],
        'backbone_cost': [1, 1.75, 2.5, 4],
        'mean_cost': [7, 8, 9, 11],
        'exited': [75, 100, 100, nothing],
        'exited_if_refined': [75, pytest.approx(200 / 3), 100, nothing],
        'refined': [nothing, 100, 50, 75],
    }
    for name, values in expected.items():
        assert rows[name].tolist() == values, name


def test_random_exits_are_as_many_and_seeded():
    rng = np.random.default_rng(3)
    fine = (rng.random(400) < 0.8).astype(int)
    images = endpoint_images(rng.random(400), np.zeros(400, int), fine)
    first = curve(images, [0.25, 0.0], num_draws=200, seed=5)
    again = curve(images, [0.25, 0.0], num_draws=200, seed=5)
    assert first.equals(again)
    row, everyone = first.to_dict('records')
    expected = 100 * fine.mean() * (1 - row['exit_ratio'])
    assert row['random'] == pytest.approx(expected, abs=0.5)
    assert 0.1 < row['random_std'] < 3
    assert (everyone['random'], everyone['random_std']) == (0, 0)


def test_without_a_draw_nothing_is_compared():
    with pytest.raises(ValueError, match='num_draws is at least 1, got 0'):
        curve(IMAGES, [0.5], num_draws=0)


def test_order_quality_is_one_for_the_oracle_and_negative_when_reversed():
    rng = np.random.default_rng(0)
    coarse, fine = rng.integers(0, 2, (2, 60))
    gain = fine - coarse + 0.1 * rng.random(60)

    def quality(confidence):
        images = endpoint_images(confidence, coarse, fine)
        steps = quantile_thresholds(confidence, 8)
        rows = curve(images, steps, num_draws=200)
        return order_quality(rows, 'top1')

    knowing = (1.2 - gain) / 3
    assert quality(knowing) > 0.95
    assert quality(1 - knowing) < -0.5
    assert abs(quality(rng.random(60))) < 0.4


def test_order_cannot_matter_without_any_gain():
    same = np.array([1, 0, 1])
    images = endpoint_images([0.2, 0.5, 0.9], same, same)
    rows = curve(images, [0.0, 0.4, 2.0])
    assert order_quality(rows, 'top1') is None


def test_useful_confidence_correlates_negatively_with_the_gain():
    (found,) = score_correlations(IMAGES).to_dict('records')
    # Gains are 0, 0, 100, -100; confidences 0.9, 0.8, 0.3, 0.6.
    assert (found['score'], found['mean_gain']) == ('top1', 0)
    assert found['gain_pearson'] == pytest.approx(-0.4629, abs=1e-4)
    assert found['gain_spearman'] == pytest.approx(-0.3162, abs=1e-4)
    assert found['coarse_score_pearson'] > 0


def test_kinds_of_confidence_are_compared_on_the_same_images():
    rng = np.random.default_rng(1)
    coarse, fine = rng.integers(0, 2, (2, 80))
    knowing = 0.5 - (fine - coarse + 0.1 * rng.random(80)) / 3
    images = endpoint_images(
        rng.random(80), coarse, fine, knowing=knowing, blind=1 - knowing
    )
    first, second = compare_kinds(images).to_dict('records')
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
    assert np.isnan(correlations(x, np.ones(4))['pearson'])


def test_what_is_kept_of_images_adds_up_to_the_mean_costs():
    images = endpoint_images([0.9, 0.8, 0.3, 0.6], [1, 1, 0, 1], [1, 1, 1, 0])
    images.table['full_macs'] = [3e9, 4e9, 5e9, 8e9]
    kept = images.details()
    assert kept['exit_cost'].tolist() == [7.0] * 4
    assert kept['full_cost'].tolist() == [10.0, 11.0, 12.0, 15.0]
    for exits in ([0, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]):
        exits = np.array(exits, dtype=bool)
        mean = np.where(exits, kept['exit_cost'], kept['full_cost']).mean()
        assert operating_point(images, exits)['mean_cost'] == mean
    del images.table['confidence']
    assert 'exit_cost' not in images.details()
