"""Rows of panels, one an image, with a label before each row."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmscope.visualization.figure_layout import FigureContent, add_legend
from mmscope.visualization.panels import draw_content, frame
from mmscope.visualization.style import BLUE, INK
from mmscope.visualization.views import Detections, ImageClasses, View

PANEL_WIDTH = 2.9
# Below this, numbers hide what they tell about.
LEAST_FOR_SCORES = 2.4
DETECTIONS = 'detections'
# Title, and what draws a view of the figure's kind.
Panel = tuple[str, Callable[[Axes, Any], None]]


def rows_figure(
    shown: FigureContent,
    panels: Sequence[Panel],
    panel_width: float,
    score_thr: float,
    colour: Callable[[Any], str] = lambda view: BLUE,
) -> tuple[Figure, np.ndarray, np.ndarray]:
    """Draw the same panels for each image.

    Args:
        shown (FigureContent): Images.
        panels (Sequence[Panel]): From left to right; what the model found
            and what is true follow by themselves, unless an image has
            classes as a whole: those are in its label.
        panel_width (float): Inches; from 2.4 on, boxes tell their scores.
        score_thr (float): Least score of a box that is drawn.
        colour (Callable): View to the colour of its label. Defaults to blue.

    Returns:
        tuple[Figure, np.ndarray, np.ndarray]: Figure, the panels' axes
        (images, columns), and thin empty axes below each column.
    """
    panels = [*panels, *_contents(shown, panel_width >= LEAST_FOR_SCORES)]
    figure, grid, below = _grid(shown.views, len(panels), panel_width)
    for row, view, note in zip(grid, shown.views, shown.notes, strict=True):
        for axes, (_, draw) in zip(row, panels, strict=True):
            frame(axes)
            draw(axes, view)
        _label_row(row[0], view, note, colour(view))
    for column, (title, _) in enumerate(panels):
        grid[0][column].set_title(title, fontsize=11, color=INK, pad=6)
        if title == DETECTIONS:
            grid[-1][column].set_xlabel(
                f'score at least {score_thr:g}', fontsize=8.5
            )
    add_legend(figure, shown.legend(truth=True))
    return figure, grid, below


def _contents(shown: FigureContent, with_scores: bool) -> list[Panel]:
    if shown.shows(ImageClasses):
        return []

    def predicted(axes: Axes, view: View) -> None:
        draw_content(axes, view, view.prediction, shown.styles, with_scores)

    def true(axes: Axes, view: View) -> None:
        draw_content(axes, view, view.label, shown.styles)

    title = DETECTIONS if shown.shows(Detections) else 'prediction'
    panels: list[Panel] = [(title, predicted)]
    if any(view.label is not None for view in shown.views):
        panels.append(('ground truth', true))
    return panels


def _grid(
    views: Sequence[View], columns: int, width: float
) -> tuple[Figure, np.ndarray, np.ndarray]:
    """Make rows of panels, and thin axes below each column."""
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
    return figure, axes[:-1], axes[-1]


def _label_row(axes: Axes, view: View, note: list[str], colour: str) -> None:
    lines = [textwrap.shorten(view.name, 22, placeholder='...'), '']
    lines += view.verdict().split(', ') + note
    axes.set_ylabel(
        '\n'.join(lines),
        fontsize=9.5,
        color=colour,
        rotation=0,
        ha='right',
        va='center',
        labelpad=8,
    )
