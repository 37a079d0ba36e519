"""Where the model looked twice: importance, refined regions, who exits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mmscope.visualization.figure_layout import SCORE_THR, FigureContent
from mmscope.visualization.panels import HEAT, draw_image, draw_importance
from mmscope.visualization.regions import draw_refined
from mmscope.visualization.rows import PANEL_WIDTH, Panel, rows_figure
from mmscope.visualization.style import BLUE, GREEN
from mmscope.visualization.views import ScopeView

TITLES = {
    'detail': 'lost by halving',
    'max_norm': 'largest scan output',
}


def scope_figure(
    views: Sequence[ScopeView],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    score_thr: float = SCORE_THR,
    panel_width: float = PANEL_WIDTH,
) -> Figure:
    """Draw one row of panels for each image.

    Args:
        views (Sequence[ScopeView]): Images of one task, at least one.
        classes (Sequence[str]): Class names.
        palette (Sequence[Sequence[int]] | None): RGB of each class of label
            maps; None spreads hues. Defaults to None.
        score_thr (float): Least score of a box that is drawn. Defaults to
            0.3.
        panel_width (float): Inches; from 2.4 on, boxes tell their scores.
            Defaults to 2.9.

    Returns:
        Figure: Image, importance, refined regions and, unless an image has
        one class as a whole, prediction and ground truth where there is one.

    Raises:
        ValueError: If there is no image.
    """
    shown = FigureContent.of(views, classes, palette, score_thr)
    figure, grid, below = rows_figure(
        shown,
        _panels(shown),
        panel_width,
        score_thr,
        lambda view: GREEN if view.exited else BLUE,
    )
    _state_threshold(grid[-1], shown.views[0])
    _add_heat_bar(figure, below[1])
    return figure


def _panels(shown: FigureContent) -> list[Panel]:
    others = [
        (TITLES.get(metric, metric), partial(draw_importance, metric=metric))
        for metric in shown.views[0].others
    ]
    return [
        ('image', draw_image),
        *others,
        ('token importance', draw_importance),
        ('refined regions', draw_refined),
    ]


def _state_threshold(bottom: np.ndarray, view: ScopeView) -> None:
    # All views come from one model; above 1 none exits.
    if view.threshold is not None and view.threshold <= 1:
        refined = 2 + len(view.others)
        bottom[refined].set_xlabel(
            f'exit threshold {view.threshold:.4g}', fontsize=8.5
        )


def _add_heat_bar(figure: Figure, axes: Axes) -> None:
    axes.set_axis_on()
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), HEAT),
        cax=axes,
        orientation='horizontal',
        ticks=[0, 1],
    )
    bar.ax.set_xticklabels(['least', 'most important'], fontsize=8.5)
    left, right = bar.ax.get_xticklabels()
    left.set_ha('left')
    right.set_ha('right')
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
