"""Curve pictures take sweeps as they are stored."""

import numpy as np
import pytest

matplotlib = pytest.importorskip('matplotlib', reason='pictures need it')

from mmscope.visualization import curve_figure  # noqa: E402


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
    gain = {'pearson': -0.5, 'spearman': None}
    quality = {'scores': {'mIoU': {'gain': gain}}}
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
    figure = curve_figure([gated(), single()], ['Scope', 'ViM'])
    curves, gains = figure.axes
    lines = {line.get_label(): line for line in curves.lines}
    assert list(lines['Scope'].get_xdata()) == [2.0, 3.0, 4.0]
    assert list(lines['Scope'].get_ydata()) == [30.0, 34.0, 35.0]
    assert list(lines['random exits ± std'].get_ydata()) == [29, 33, 34]
    assert list(lines['oracle order'].get_ydata()) == [31, 35, 36]
    assert list(lines['ViM'].get_ydata()) == [33.0]
    assert 'r = -0.50, rank r = undefined' in gains.get_title()
    assert len(gains.collections[0].get_offsets()) == 40


def test_trend_is_the_mean_of_equal_groups():
    _, gains = curve_figure([gated()], ['Scope']).axes
    trend = gains.lines[-1].get_ydata()
    assert trend[0] == pytest.approx(np.mean(-np.arange(7)))
    assert len(trend) == 6


def test_single_stage_model_alone_is_one_panel():
    assert len(curve_figure([single()], ['ViM']).axes) == 1


def test_different_scores_are_not_drawn_together():
    with pytest.raises(ValueError, match="'mIoU', 'top1'"):
        curve_figure([gated(), {**single(), 'score': 'top1'}], ['a', 'b'])
    with pytest.raises(ValueError, match='no sweep'):
        curve_figure([], [])
