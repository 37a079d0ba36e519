"""Where the model looked twice: importance, refined regions, who exits."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mmscope.visualization.panels import (
    HEAT,
    draw_content,
    draw_image,
    draw_importance,
    draw_refined,
    frame,
)
from mmscope.visualization.scene import SCORE_THR, Scene, add_legend
from mmscope.visualization.style import BLUE, GREEN, INK
from mmscope.visualization.views import Detections, ImageClass, ScopeView

PANEL_WIDTH = 2.9
# Below this, numbers hide what they tell about.
LEAST_FOR_SCORES = 2.4
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
    scene = Scene.of(views, classes, palette, score_thr)
    panels = _panels(scene, panel_width >= LEAST_FOR_SCORES)
    figure, grid, bar = _grid(scene.views, len(panels), panel_width)
    for row, view, note in zip(grid, scene.views, scene.notes, strict=True):
        for axes, (_, draw) in zip(row, panels, strict=True):
            frame(axes)
            draw(axes, view)
        _row_label(row[0], view, note)
    for axes, (title, _) in zip(grid[0], panels, strict=True):
        axes.set_title(title, fontsize=11, color=INK, pad=6)
    _state_thresholds(grid[-1], scene, score_thr)
    _add_heat_bar(figure, bar)
    add_legend(figure, scene.legend(truth=True))
    return figure


def _state_thresholds(
    bottom: np.ndarray, scene: Scene, score_thr: float
) -> None:
    refined = 2 + len(scene.views[0].others)
    if scene.shows(Detections):
        bottom[refined + 1].set_xlabel(
            f'score at least {score_thr:g}', fontsize=8.5
        )
    # All views come from one model; above 1 none exits.
    threshold = scene.views[0].threshold
    if threshold is not None and threshold <= 1:
        bottom[refined].set_xlabel(
            f'exit threshold {threshold:.4g}', fontsize=8.5
        )


def _panels(
    scene: Scene, with_scores: bool
) -> list[tuple[str, Callable[[Axes, ScopeView], None]]]:
    others = [
        (TITLES.get(metric, metric), partial(draw_importance, metric=metric))
        for metric in scene.views[0].others
    ]
    panels = [
        ('image', draw_image),
        *others,
        ('token importance', draw_importance),
        ('refined regions', draw_refined),
    ]
    if scene.shows(ImageClass):
        return panels

    def predicted(axes: Axes, view: ScopeView) -> None:
        draw_content(axes, view, view.prediction, scene.styles, with_scores)

    def true(axes: Axes, view: ScopeView) -> None:
        draw_content(axes, view, view.label, scene.styles)

    title = 'detections' if scene.shows(Detections) else 'prediction'
    panels.append((title, predicted))
    if any(view.label is not None for view in scene.views):
        panels.append(('ground truth', true))
    return panels


def _grid(
    views: Sequence[ScopeView], columns: int, width: float
) -> tuple[Figure, np.ndarray, Axes]:
    """Make rows of panels, and thin axes below the second column."""
    ratios = [view.image.shape[0] / view.image.shape[1] for view in views]
    figure = Figure(
        figsize=(columns * width + 1.7, sum(ratios) * width + 1.2),
        layout='constrained',
    )
    axes = figure.subplots(
        len(views) + 1,
        columns,
        squeeze=False,
        height_ratios=[*ratios, 0.035 * PANEL_WIDTH / width],
    )
    for unused in axes[-1]:
        unused.set_axis_off()
    return figure, axes[:-1], axes[-1, 1]


def _row_label(axes: Axes, view: ScopeView, note: list[str]) -> None:
    lines = [textwrap.shorten(view.name, 22, placeholder='...'), '']
    lines += view.verdict().split(', ') + note
    axes.set_ylabel(
        '\n'.join(lines),
        fontsize=9.5,
        color=GREEN if view.exited else BLUE,
        rotation=0,
        ha='right',
        va='center',
        labelpad=8,
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
