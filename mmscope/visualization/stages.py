"""Who is right at which stage, for classifiers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mmscope.evaluation.sweep_result import SweepResult
from mmscope.visualization.style import BLUE, GREY, INK, ORANGE, RED


def draw_stages(axes: Axes, result: SweepResult) -> None:
    """Split the right predictions by the stage that made them (Fig. 8).

    A bar is as high as the accuracy at that threshold.
    """
    rows, place = result.rows, np.arange(len(result.rows))
    accuracy, ratio = rows[result.score], rows['exit_ratio']
    coarse = ratio * rows['exited'].fillna(0)
    fine = (1 - ratio) * rows['refined'].fillna(0)
    axes.bar(place, coarse, 0.7, color=BLUE, label='right, exited')
    axes.bar(place, fine, 0.7, coarse, color=ORANGE, label='right, went on')
    axes.plot(
        place, accuracy, 'o-', color=INK, markersize=4, label=result.score
    )
    names = [_threshold(row) for _, row in rows.iterrows()]
    axes.set_xticks(place, names, rotation=60)
    axes.set_xlabel('exit threshold')
    axes.set_ylabel('share of all images, %')
    axes.set_ylim(0, 1.25 * max(accuracy))
    axes.set_title('Right predictions by stage', color=INK)
    axes.legend(frameon=False, fontsize=9, ncols=3, loc='upper center')


def _threshold(row: pd.Series) -> str:
    if row['exit_ratio'] == 0:
        return 'none exits'
    return 'all exit' if row['threshold'] == 0 else f'{row["threshold"]:.3g}'


def draw_confidence_bins(axes: Axes, result: SweepResult) -> None:
    """Draw how many images have a confidence, and who of them is right."""
    bins = result.confidence.bins
    axes.bar(
        bins['lower'],
        100 * bins['count'] / bins['count'].sum(),
        bins['upper'] - bins['lower'],
        align='edge',
        color=GREY,
        alpha=0.35,
        edgecolor='white',
        label='share of the images',
    )
    axes.plot([0, 1], [0, 100], ':', color=GREY, label='calibrated')
    filled = bins[bins['count'] > 0]
    for stage, colour in (('coarse', BLUE), ('fine', RED)):
        axes.plot(
            filled['confidence'],
            filled[stage],
            'o-',
            color=colour,
            markersize=4,
            label=f'{result.score}, {stage}',
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 100)
    axes.set_xlabel('confidence after the coarse stage')
    axes.set_ylabel('%')
    coarse, fine = result.rows['ece'].iloc[[0, -1]]
    axes.set_title(
        'Does the confidence tell who is right?  ECE '
        f'{coarse:.1f} coarse, {fine:.1f} fine',
        color=INK,
        fontsize=11,
    )
    axes.legend(frameon=False, fontsize=9)
