"""Curve pictures take sweeps as they are stored."""

import numpy as np
import pytest

matplotlib = pytest.importorskip('matplotlib', reason='pictures need it')

from mmscope.evaluation import SweepResult  # noqa: E402
from mmscope.visualization import curve_figure  # noqa: E402


def draw(sweeps, names):
    """Draw sweeps as their JSON is read."""
    content = {'convention': 'paper'}
    read = [SweepResult.from_json({**content, **sweep}) for sweep in sweeps]
    return curve_figure(dict(zip(names, read, strict=True)))


def gated():
    rows = [
        {
            'threshold': threshold,
            'exit_ratio': ratio,
            'mIoU': score,
            'mean_cost': cost,
            'random': score - 1,
            'random_std': 0.3,
            'oracle': score + 1,
        }
        for threshold, ratio, score, cost in [
            (0.0, 1.0, 30.0, 2.0),
            (0.8, 0.5, 34.0, 3.0),
            (2.0, 0.0, 35.0, 4.0),
        ]
    ]
    images = [
        {'name': str(i), 'confidence': i / 40, 'gain_mIoU': float(-i)}
        for i in range(40)
    ]
    images.append({'name': 'blank', 'confidence': 1.0, 'gain_mIoU': None})
    quality = {
        'scores': [
            {'score': 'mIoU', 'gain_pearson': -0.5, 'gain_spearman': None}
        ]
    }
    return {
        'score': 'mIoU',
        'rows': rows,
        'images': images,
        'confidence': quality,
    }


def single():
    row = {'threshold': None, 'mIoU': 33.0, 'mean_cost': 3.5}
    return {'score': 'mIoU', 'rows': [row], 'images': [], 'confidence': {}}


def test_curve_random_oracle_and_baseline_point():
    figure = draw([gated(), single()], ['Scope', 'ViM'])
    curves, gains = figure.axes
    lines = {line.get_label(): line for line in curves.lines}
    assert list(lines['Scope'].get_xdata()) == [2.0, 3.0, 4.0]
    assert list(lines['Scope'].get_ydata()) == [30.0, 34.0, 35.0]
    assert list(lines['random exits ± std'].get_ydata()) == [29, 33, 34]
    assert list(lines['oracle order'].get_ydata()) == [31, 35, 36]
    assert list(lines['ViM'].get_ydata()) == [33.0]
    assert 'r = -0.50, rank r = undefined' in gains.get_title()
    assert len(gains.collections[0].get_offsets()) == 40


def test_random_and_oracle_exits_stand_at_their_own_costs():
    sweep = gated()
    # The gate lets the dear ones exit, of which the oracle keeps half.
    sweep['rows'][1]['mean_cost'] = 2.5
    sweep['images'] = [
        {
            'name': str(i),
            'confidence': confidence,
            'gain_mIoU': gain,
            'exit_cost': 2.0,
            'full_cost': full,
        }
        for i, (confidence, gain, full) in enumerate(
            [(0.9, 1.0, 5.0), (0.8, 0.0, 5.0), (0.1, 0.5, 3.0), (0.2, 2.0, 3)]
        )
    ]
    lines = {
        line.get_label(): line
        for line in draw([sweep], ['Scope']).axes[0].lines
    }
    assert list(lines['Scope'].get_xdata()) == [2.0, 2.5, 4.0]
    assert list(lines['random exits ± std'].get_xdata()) == [2.0, 3.0, 4.0]
    # Images 1 and 2 exit: 2, 2, 5 and 3.
    assert list(lines['oracle order'].get_xdata()) == [2.0, 3.0, 4.0]
    sweep['images'][1]['full_cost'], sweep['images'][0]['full_cost'] = 6, 4
    lines = {
        line.get_label(): line
        for line in draw([sweep], ['Scope']).axes[0].lines
    }
    assert list(lines['oracle order'].get_xdata()) == [2.0, 2.75, 4.0]


def test_untrained_settings_are_a_line_beside_the_point():
    variants = [
        {'settings': name, 'rows': [{'mIoU': score, 'mean_cost': cost}]}
        for name, score, cost in [('r=5', 31.0, 3.0), ('r=9', 25.0, 2.0)]
    ]
    merged = {**single(), 'variants': variants}
    curves = draw([single(), merged], ['ViM', 'Merged']).axes[0]
    lines = {line.get_label(): line for line in curves.lines}
    line = lines['same weights, other settings, untrained']
    assert list(line.get_xdata()) == [2.0, 3.0]
    assert list(line.get_ydata()) == [25.0, 31.0]
    assert line.get_color() == lines['Merged'].get_color()
    assert len(lines) == 3


def test_points_that_were_timed_are_drawn_against_their_speed_too():
    results = [single(), single()]
    for result, speed in zip(results, (5.0, 8.0), strict=True):
        result['rows'][0]['images_per_s'] = speed
        result['throughput'] = [{'batch_size': 1}, {'batch_size': 8}]
    costs, speeds = draw(results, ['ViM', 'Merged']).axes
    assert [line.get_xdata()[0] for line in speeds.lines] == [5.0, 8.0]
    assert speeds.get_xlabel() == 'images/s, batch 1'
    colours = [line.get_color() for line in costs.lines]
    assert [line.get_color() for line in speeds.lines] == colours
    del results[1]['rows'][0]['images_per_s']
    assert len(draw(results, ['ViM', 'Merged']).axes) == 1


def test_trend_is_the_mean_of_equal_groups():
    _, gains = draw([gated()], ['Scope']).axes
    trend = gains.lines[-1].get_ydata()
    assert trend[0] == pytest.approx(np.mean(-np.arange(7)))
    assert len(trend) == 6


def test_single_stage_model_alone_is_one_panel():
    assert len(draw([single()], ['ViM']).axes) == 1


def test_different_scores_are_not_drawn_together():
    with pytest.raises(ValueError, match="'mIoU', 'top1'"):
        draw([gated(), {**single(), 'score': 'top1'}], ['a', 'b'])
    with pytest.raises(ValueError, match='no sweep'):
        draw([], [])


def classifier(name='top1'):
    rows = [
        {
            'threshold': threshold,
            'exit_ratio': ratio,
            name: score,
            'exited': exited,
            'refined': refined,
            'mean_cost': 4 - 2 * ratio,
            'random': score,
            'random_std': 0.0,
            'oracle': score,
            'ece': 100 * threshold,
        }
        for threshold, ratio, score, exited, refined in [
            (0.0, 1.0, 60.0, 60.0, None),
            (0.7, 0.5, 75.0, 90.0, 60.0),
            (2.0, 0.0, 70.0, None, 70.0),
        ]
    ]
    empty = dict.fromkeys(('confidence', 'coarse', 'fine'))
    bins = [
        {'lower': 0.0, 'upper': 0.5, 'count': 0, **empty},
        {
            'lower': 0.5,
            'upper': 1.0,
            'count': 8,
            'confidence': 0.75,
            'coarse': 50.0,
            'fine': 62.5,
        },
    ]
    quality = {'bins': bins}
    return {'score': name, 'rows': rows, 'images': [], 'confidence': quality}


def test_classifier_shows_who_is_right_at_which_stage():
    _, stages, bins = draw([classifier()], ['Scope']).axes
    heights = [bar.get_height() for bar in stages.patches]
    assert heights == [60, 45, 0, 0, 30, 70]
    assert list(stages.lines[0].get_ydata()) == [60, 75, 70]
    labels = [label.get_text() for label in stages.get_xticklabels()]
    assert labels == ['all exit', '0.7', 'none exits']
    assert [bar.get_height() for bar in bins.patches] == [0, 100]
    lines = {line.get_label(): line for line in bins.lines}
    assert list(lines['top1, coarse'].get_ydata()) == [50]
    assert list(lines['top1, fine'].get_ydata()) == [62.5]


def test_many_curves_leave_their_comparisons_out():
    names = ['ViM', 'a', 'b', 'c']
    row = {'threshold': None, 'top1': 72.0, 'mean_cost': 3.5}
    vim = {**single(), 'score': 'top1', 'rows': [row]}
    curves = draw([vim, *3 * [classifier()]], names).axes[0]
    assert [line.get_label() for line in curves.lines] == names
    assert not curves.texts


def test_sweep_without_its_images_is_drawn():
    assert len(draw([{**gated(), 'images': []}], ['Scope']).axes) == 1
