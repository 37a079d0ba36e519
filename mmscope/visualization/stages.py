"""Who is right at which stage, for classifiers."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from mmscope.visualization.style import BLUE, GREY, INK, ORANGE, RED


def draw_stages(axes: Axes, result: dict) -> None:
    """Split the right predictions by the stage that made them (Fig. 8).

    Args:
        axes (Axes): Where to draw.
        result (dict): Sweep of a gated classifier. A bar is as high as the
            accuracy at that threshold.
    """
    score, rows = result['score'], result['rows']
    coarse = np.array(
        [row['exit_ratio'] * (row['exited'] or 0) for row in rows]
    )
    fine = np.array(
        [(1 - row['exit_ratio']) * (row['refined'] or 0) for row in rows]
    )
    place = np.arange(len(rows))
    axes.bar(place, coarse, color=BLUE, label='right, exited', width=0.7)
    axes.bar(
        place,
        fine,
        bottom=coarse,
        color=ORANGE,
        label='right, went on',
        width=0.7,
    )
    accuracy = [row[score] for row in rows]
    axes.plot(place, accuracy, 'o-', color=INK, markersize=4, label=score)
    axes.set_xticks(place, [_threshold(row) for row in rows], rotation=60)
    axes.set_xlabel('exit threshold')
    axes.set_ylabel('share of all images, %')
    axes.set_ylim(0, 1.25 * max(accuracy))
    axes.set_title('Right predictions by stage', color=INK)
    axes.legend(frameon=False, fontsize=9, ncols=3, loc='upper center')


def _threshold(row: dict) -> str:
    if row['exit_ratio'] == 0:
        return 'none exits'
    return 'all exit' if row['threshold'] == 0 else f'{row["threshold"]:.3g}'


def draw_confidence_bins(axes: Axes, result: dict) -> None:
    """Draw how many images have a confidence, and who of them is right.

    Args:
        axes (Axes): Where to draw.
        result (dict): Sweep of a gated classifier.
    """
    bins = result['confidence']['bins']
    number = sum(entry['count'] for entry in bins)
    axes.bar(
        [entry['lower'] for entry in bins],
        [100 * entry['count'] / number for entry in bins],
        width=[entry['upper'] - entry['lower'] for entry in bins],
        align='edge',
        color=GREY,
        alpha=0.35,
        edgecolor='white',
        label='share of the images',
    )
    filled = [entry for entry in bins if entry['count']]
    confidence = [entry['confidence'] for entry in filled]
    axes.plot([0, 1], [0, 100], ':', color=GREY, label='calibrated')
    for stage, colour in (('coarse', BLUE), ('fine', RED)):
        axes.plot(
            confidence,
            [entry[stage] for entry in filled],
            'o-',
            color=colour,
            markersize=4,
            label=f'{result["score"]}, {stage}',
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 100)
    axes.set_xlabel('confidence after the coarse stage')
    axes.set_ylabel('%')
    ends = result['rows'][0].get('ece'), result['rows'][-1].get('ece')
    axes.set_title(
        'Does the confidence know who is right?  ECE '
        f'{ends[0]:.1f} coarse, {ends[1]:.1f} fine',
        color=INK,
        fontsize=11,
    )
    axes.legend(frameon=False, fontsize=9)
