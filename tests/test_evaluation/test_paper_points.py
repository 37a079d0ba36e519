"""Points of a threshold curve, from its rows or its images."""

import pytest

from mmscope.analysis.paper_table import PaperRow
from mmscope.evaluation import SweepResult
from mmscope.evaluation.paper_tables import reached, swept_at

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


def swept(rows=ROWS, images=IMAGES):
    content = {'score': 'top1', 'rows': rows, 'images': images}
    return SweepResult.from_json({'convention': 'paper', **content})


@pytest.mark.parametrize(
    ('eta', 'top1', 'exit_ratio'),
    [
        (0.0, 50.0, 1.0),
        (0.5, 75.0, 0.75),
        # From the images; confidence 0.6 exits at 0.6.
        (0.6, 75.0, 0.75),
        (0.7, 75.0, 0.25),
        (0.1, 50.0, 1.0),
    ],
)
def test_any_threshold_has_a_point(eta, top1, exit_ratio):
    point = swept_at(swept(), eta)
    assert (point['top1'], point['exit_ratio']) == (top1, exit_ratio)


def test_a_score_that_is_no_mean_over_images_is_not_made_up():
    rows = [{**row, 'top1': row['top1'] - 10} for row in ROWS]
    assert swept_at(swept(rows), 0.7) is None
    assert swept_at(swept(rows), 0.5)['top1'] == 65
    assert swept_at(swept(images=[]), 0.7) is None


@pytest.mark.parametrize(
    ('row', 'costs', 'score', 'exit_ratio', 'mean'),
    [
        ({}, {'full': 4.0}, 75.0, 0.0, 4.0),
        ({'eta': 0.5}, {'coarse': 1.0, 'full': 5.0}, 75.0, 0.75, 2.0),
        ({'eta': 0.0}, {'coarse': 1.0, 'full': 5.0}, 50.0, 1.0, 1.0),
        ({}, {'implied': 0.9, 'coarse': 1, 'full': 5}, 50.0, 1.0, 1.0),
        ({}, {'implied': 0.6, 'coarse': 1, 'full': 5}, 75.0, 0.75, 2.0),
    ],
)
def test_a_printed_row_asks_for_its_point(row, costs, score, exit_ratio, mean):
    found = reached(swept(), PaperRow('ours', key='run', **row), costs)
    assert found['score'] == score
    assert found['exit_ratio'] == exit_ratio
    assert found['mean'] == mean


def test_no_sweep_no_score():
    found = reached(None, PaperRow('ours', key='run'), {})
    assert found == {'score': 'not trained', 'mask_score': 'not trained'}
