"""Images of which the model is most and least sure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mmscope.visualization.figure_layout import (
    SCORE_THR,
    FigureContent,
    add_legend,
)
from mmscope.visualization.panels import draw_content, draw_image, frame
from mmscope.visualization.style import BLUE, GREEN
from mmscope.visualization.views import ImageClasses, ScopeView


def exit_gallery(
    most: Sequence[ScopeView],
    least: Sequence[ScopeView],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    notes: dict[str, str] | None = None,
    score_thr: float = SCORE_THR,
) -> Figure:
    """Show which images the model is sure of, and which it is not.

    Args:
        most (Sequence[ScopeView]): Most confident images, best first.
        least (Sequence[ScopeView]): Least confident images, worst first.
        classes (Sequence[str]): Class names.
        palette (Sequence[Sequence[int]] | None): RGB of each class of label
            maps. Defaults to None.
        notes (dict[str, str] | None): A line below the confidence, by image
            name. Defaults to None.
        score_thr (float): Least score of a box that is drawn. Defaults to
            0.3.

    Returns:
        Figure: Each image above its prediction, one row of pairs a group.

    Raises:
        ValueError: If there is no image.
    """
    shown = FigureContent.of([*most, *least], classes, palette, score_thr)
    most, least = shown.views[: len(most)], shown.views[len(most) :]
    groups = [
        ('most confident', GREEN, most),
        ('least confident', BLUE, least),
    ]
    groups = [group for group in groups if group[2]]
    columns = max(len(views) for _, _, views in groups)
    rows = 1 if shown.shows(ImageClasses) else 2
    height, width = groups[0][2][0].image.shape[:2]
    cell = 2.5 * height / width
    figure = Figure(
        figsize=(
            0.5 + 2.6 * columns,
            len(groups) * (rows * cell + 0.75) + 0.6,
        ),
        layout='constrained',
    )
    parts = figure.subfigures(len(groups), squeeze=False)[:, 0]
    for part, (title, colour, views) in zip(parts, groups, strict=True):
        part.suptitle(title, fontsize=12, color=colour, weight='bold')
        grid = part.subplots(rows, columns, squeeze=False)
        _draw_group(grid, views, shown, notes or {})
    add_legend(figure, shown.legend(truth=False))
    return figure


def _draw_group(
    grid: np.ndarray,
    views: Sequence[ScopeView],
    shown: FigureContent,
    notes: dict[str, str],
) -> None:
    for axes in grid.flat:
        axes.set_axis_off()
    for column, view in zip(grid.T, views, strict=False):
        frame(column[0])
        draw_image(column[0], view)
        for bottom in column[1:]:
            frame(bottom)
            draw_content(bottom, view, view.prediction, shown.styles)
        lines = [view.verdict(), notes.get(view.name)]
        column[0].set_title('\n'.join(filter(None, lines)), fontsize=8.5)
