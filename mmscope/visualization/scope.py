"""Where the model looked twice: importance, refined regions, who exits."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mmscope.visualization.style import (
    BLUE,
    GREEN,
    INK,
    class_legend,
    class_palette,
    colour_labels,
)

HEAT = 'inferno'


@dataclass
class ScopeView:
    """One image and what the model made of it.

    Args:
        name (str): Name of the image.
        image (np.ndarray): RGB, (H, W, 3) uint8.
        importance (np.ndarray): Token importance on the coarse grid, (h, w).
        refined (np.ndarray): Refined regions, (h, w) bool.
        prediction (np.ndarray): Classes, (H', W') int of the same scene.
        label (np.ndarray | None): True classes, (H'', W'') int.
        exited (bool): Whether the image left after the coarse stage.
        confidence (float | None): Confidence, None without a gate.
        canvas (tuple[float, float]): Height and width that the coarse grid
            covers, in pixels of the image; padding makes it larger.
    """

    name: str
    image: np.ndarray
    importance: np.ndarray
    refined: np.ndarray
    prediction: np.ndarray
    label: np.ndarray | None
    exited: bool
    confidence: float | None
    canvas: tuple[float, float]

    def verdict(self) -> str:
        """Say whether the image exits, and how sure the model was."""
        if self.exited:
            text = 'exits early'
        else:
            text = f'{self.refined.sum()} of {self.refined.size} refined'
        if self.confidence is None:
            return text
        return f'{text}, confidence {self.confidence:.3f}'


def scope_figure(
    views: Sequence[ScopeView],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
) -> Figure:
    """Draw one row of panels for each image.

    Args:
        views (Sequence[ScopeView]): Images, at least one.
        classes (Sequence[str]): Class names.
        palette (Sequence[Sequence[int]] | None): RGB of each class; None
            spreads hues. Defaults to None.

    Returns:
        Figure: Image, importance, refined regions, prediction and, where
        there is one, ground truth.

    Raises:
        ValueError: If there is no image.
    """
    if not views:
        raise ValueError('there is no image to draw')
    colours = class_palette(len(classes), palette)
    panels: list[tuple[str, Callable[[Axes, ScopeView], None]]] = [
        ('image', _draw_image),
        ('token importance', _draw_importance),
        ('refined regions', _draw_refined),
        ('prediction', lambda a, v: _draw_labels(a, v, v.prediction, colours)),
        ('ground truth', lambda a, v: _draw_labels(a, v, v.label, colours)),
    ]
    if all(view.label is None for view in views):
        panels = panels[:-1]
    figure, grid, bar = _grid(views, len(panels))
    for row, view in zip(grid, views, strict=True):
        for axes, (_, draw) in zip(row, panels, strict=True):
            _frame(axes)
            draw(axes, view)
        _row_label(row[0], view)
    for axes, (title, _) in zip(grid[0], panels, strict=True):
        axes.set_title(title, fontsize=11, color=INK, pad=6)
    _add_heat_bar(figure, bar)
    maps = [view.prediction for view in views]
    maps += [view.label for view in views if view.label is not None]
    _add_legend(figure, class_legend(classes, colours, maps))
    return figure


def exit_gallery(
    most: Sequence[ScopeView],
    least: Sequence[ScopeView],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    notes: dict[str, str] | None = None,
) -> Figure:
    """Show which images the model is sure of, and which it is not.

    Args:
        most (Sequence[ScopeView]): Most confident images, best first.
        least (Sequence[ScopeView]): Least confident images, worst first.
        classes (Sequence[str]): Class names.
        palette (Sequence[Sequence[int]] | None): RGB of each class. Defaults
            to None.
        notes (dict[str, str] | None): A line below the confidence, by image
            name. Defaults to None.

    Returns:
        Figure: Each image above its prediction, one row of pairs a group.

    Raises:
        ValueError: If there is no image.
    """
    groups = [
        ('most confident', GREEN, most),
        ('least confident', BLUE, least),
    ]
    groups = [group for group in groups if group[2]]
    if not groups:
        raise ValueError('there is no image to draw')
    colours = class_palette(len(classes), palette)
    columns = max(len(views) for _, _, views in groups)
    height, width = groups[0][2][0].image.shape[:2]
    cell = 2.5 * height / width
    figure = Figure(
        figsize=(0.5 + 2.6 * columns, len(groups) * (2 * cell + 0.75) + 0.6),
        layout='constrained',
    )
    parts = figure.subfigures(len(groups), squeeze=False)[:, 0]
    for part, (title, colour, views) in zip(parts, groups, strict=True):
        part.suptitle(title, fontsize=12, color=colour, weight='bold')
        grid = part.subplots(2, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for (top, bottom), view in zip(grid.T, views, strict=False):
            _frame(top)
            _draw_image(top, view)
            _frame(bottom)
            _draw_labels(bottom, view, view.prediction, colours)
            lines = [view.verdict(), (notes or {}).get(view.name)]
            top.set_title('\n'.join(filter(None, lines)), fontsize=8.5)
    maps = [view.prediction for _, _, views in groups for view in views]
    _add_legend(figure, class_legend(classes, colours, maps))
    return figure


def _grid(
    views: Sequence[ScopeView], columns: int
) -> tuple[Figure, np.ndarray, Axes]:
    """Make rows of panels, and thin axes below the second column."""
    ratios = [view.image.shape[0] / view.image.shape[1] for view in views]
    width = 2.9
    figure = Figure(
        figsize=(columns * width + 1.7, sum(ratios) * width + 1.2),
        layout='constrained',
    )
    axes = figure.subplots(
        len(views) + 1,
        columns,
        squeeze=False,
        height_ratios=[*ratios, 0.035],
    )
    for unused in axes[-1]:
        unused.set_axis_off()
    return figure, axes[:-1], axes[-1, 1]


def _frame(axes: Axes) -> None:
    """Use image pixels as coordinates, whatever is drawn."""
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_aspect('equal')


def _limit(axes: Axes, view: ScopeView) -> None:
    height, width = view.image.shape[:2]
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def _image_extent(view: ScopeView) -> tuple[float, float, float, float]:
    height, width = view.image.shape[:2]
    return (0, width, height, 0)


def _canvas_extent(view: ScopeView) -> tuple[float, float, float, float]:
    return (0, view.canvas[1], view.canvas[0], 0)


def _draw_image(axes: Axes, view: ScopeView) -> None:
    axes.imshow(view.image, extent=_image_extent(view))
    _limit(axes, view)


def _draw_importance(axes: Axes, view: ScopeView) -> None:
    grey = view.image.mean(-1)
    axes.imshow(
        grey, cmap='gray', vmin=0, vmax=255, extent=_image_extent(view)
    )
    axes.imshow(
        _ranked(view.importance),
        cmap=HEAT,
        vmin=0,
        vmax=1,
        alpha=0.65,
        interpolation='nearest',
        extent=_canvas_extent(view),
    )
    _limit(axes, view)


def _draw_refined(axes: Axes, view: ScopeView) -> None:
    axes.imshow(view.image, extent=_image_extent(view))
    veil = np.ones((*view.refined.shape, 4))
    veil[..., 3] = np.where(view.refined, 0.0, 0.72)
    axes.imshow(veil, interpolation='nearest', extent=_canvas_extent(view))
    axes.add_collection(
        LineCollection(_borders(view), colors=GREEN, linewidths=1.3)
    )
    if not view.refined.any():
        height, width = view.image.shape[:2]
        axes.text(
            width / 2,
            height / 2,
            'nothing refined',
            ha='center',
            va='center',
            fontsize=10,
            color=INK,
        )
    _limit(axes, view)


def _draw_labels(
    axes: Axes,
    view: ScopeView,
    labels: np.ndarray | None,
    colours: np.ndarray,
) -> None:
    if labels is None:
        axes.set_axis_off()
        return
    axes.imshow(
        colour_labels(labels, colours),
        interpolation='nearest',
        extent=_image_extent(view),
    )
    _limit(axes, view)


def _borders(view: ScopeView) -> list[list[tuple[float, float]]]:
    """Find the segments between refined and other regions, in pixels."""
    rows, columns = view.refined.shape
    high, wide = view.canvas[0] / rows, view.canvas[1] / columns
    padded = np.pad(view.refined, 1)
    lines = []
    for r, c in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]):
        lines.append([(c * wide, r * high), (c * wide, (r + 1) * high)])
    for r, c in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1]):
        lines.append([(c * wide, r * high), ((c + 1) * wide, r * high)])
    return lines


def _ranked(values: np.ndarray) -> np.ndarray:
    """Spread values evenly over [0, 1]: their ranking is all that is used."""
    if np.ptp(values) == 0:
        return np.zeros_like(values)
    ranks = values.ravel().argsort(kind='stable').argsort(kind='stable')
    return ranks.reshape(values.shape) / (values.size - 1)


def _row_label(axes: Axes, view: ScopeView) -> None:
    lines = [textwrap.shorten(view.name, 22, placeholder='...'), '']
    lines += view.verdict().split(', ')
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


def _add_legend(figure: Figure, handles: list) -> None:
    most = max(1, int(figure.get_figwidth() // 1.35))
    rows = max(1, math.ceil(len(handles) / most))
    figure.legend(
        handles=handles,
        loc='outside lower center',
        ncols=max(1, math.ceil(len(handles) / rows)),
        fontsize=9.5,
        frameon=False,
        handlelength=1.2,
        handleheight=1.0,
    )
