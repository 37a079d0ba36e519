"""Points of a threshold curve, from its rows or its images."""

import pytest

from mmscope.analysis.paper_results import Point, Results

IMAGES = [
    {'confidence': 0.9, 'coarse_top1': 100.0, 'fine_top1': 100.0},
    {'confidence': 0.6, 'coarse_top1': 0.0, 'fine_top1': 100.0},
    {'confidence': 0.6, 'coarse_top1': 100.0, 'fine_top1': 0.0},
    {'confidence': 0.2, 'coarse_top1': 0.0, 'fine_top1': 100.0},
]
ROWS = [
    {'threshold': 0.0, 'exit_ratio': 1.0, 'top1': 50.0},
    {'threshold': 0.5, 'exit_ratio': 0.75, 'top1': 75.0},
    {'threshold': 2.0, 'exit_ratio': 0.0, 'top1': 75.0},
]


@pytest.fixture
def results():
    return Results({'run': {'score': 'top1', 'rows': ROWS, 'images': IMAGES}})


def test_ends_of_the_curve(results):
    assert results.all_exit('run') == Point(50.0, 1.0)
    assert results.none_exits('run') == Point(75.0, 0.0)


def test_a_swept_threshold_is_read(results):
    assert results.at('run', 0.5) == Point(75.0, 0.75)


def test_any_threshold_is_computed_from_the_images(results):
    # Confidence 0.6 exits at 0.6.
    assert results.at('run', 0.6) == Point(75.0, 0.75)
    assert results.at('run', 0.7) == Point(75.0, 0.25)
    assert results.at('run', 0.1) == Point(50.0, 1.0)


def test_the_point_of_the_nearest_exit_ratio(results):
    assert results.nearest('run', 0.6) == Point(75.0, 0.75)
    assert results.nearest('run', 0.3) == Point(75.0, 0.0)


def test_a_score_that_is_no_mean_over_images_is_not_made_up():
    rows = [{**row, 'top1': row['top1'] - 10} for row in ROWS]
    miou = Results({'run': {'score': 'top1', 'rows': rows, 'images': IMAGES}})
    assert miou.at('run', 0.7) is None
    assert miou.at('run', 0.5) == Point(65.0, 0.75)


def test_no_sweep_no_point(results):
    for key in ('other', None):
        assert results.none_exits(key) is None
        assert results.all_exit(key) is None
        assert results.at(key, 0.5) is None
        assert results.nearest(key, 0.5) is None
    vim = Results({'vim': {'score': 'top1', 'rows': ROWS[-1:], 'images': []}})
    assert vim.all_exit('vim') is None
    assert vim.at('vim', 0.5) is None
