"""Single panels of a picture; all use pixels of the image as coordinates."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from mmscope.visualization.style import (
    GREEN,
    INK,
    BoxStyles,
    colour_labels,
)
from mmscope.visualization.views import (
    Content,
    Detections,
    ImageClass,
    ScopeView,
)

HEAT = 'inferno'
VEIL = 0.72
# White below every line: it is seen on any photo.
HALO = [withStroke(linewidth=2.6, foreground='white', alpha=0.85)]


def frame(axes: Axes) -> None:
    """Prepare axes for a picture: no ticks, square pixels.

    Args:
        axes (Axes): Changed in place.
    """
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_aspect('equal')


def draw_image(axes: Axes, view: ScopeView) -> None:
    """Draw the image alone.

    Args:
        axes (Axes): Where to draw.
        view (ScopeView): What to draw.
    """
    axes.imshow(view.image, extent=_image_extent(view))
    _limit(axes, view)


def draw_importance(
    axes: Axes, view: ScopeView, metric: str | None = None
) -> None:
    """Draw the ranking of the regions over the grey image.

    Args:
        axes (Axes): Where to draw.
        view (ScopeView): What to draw.
        metric (str | None): One of its ``others``; None for the importance
            that decided. Defaults to None.
    """
    values = view.importance if metric is None else view.others[metric]
    grey = view.image.mean(-1)
    axes.imshow(
        grey, cmap='gray', vmin=0, vmax=255, extent=_image_extent(view)
    )
    axes.imshow(
        _ranked(values),
        cmap=HEAT,
        vmin=0,
        vmax=1,
        alpha=0.65,
        interpolation='nearest',
        extent=_canvas_extent(view),
    )
    _limit(axes, view)


def draw_refined(axes: Axes, view: ScopeView) -> None:
    """Veil what is not refined, and outline what is.

    Args:
        axes (Axes): Where to draw.
        view (ScopeView): What to draw.
    """
    axes.imshow(view.image, extent=_image_extent(view))
    veil = np.ones((*view.refined.shape, 4))
    veil[..., 3] = np.where(view.refined, 0.0, VEIL)
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


def draw_content(
    axes: Axes,
    view: ScopeView,
    content: Content | None,
    styles: np.ndarray | BoxStyles,
    with_scores: bool = False,
) -> None:
    """Draw a label map or boxes; nothing where there is none.

    Args:
        axes (Axes): Where to draw.
        view (ScopeView): Its image.
        content (np.ndarray | Detections | ImageClass | None): Predicted or
            true; a class is no picture.
        styles (np.ndarray | BoxStyles): A label map's palette, (C, 3) uint8,
            or how boxes of each class look.
        with_scores (bool): Whether found boxes tell their scores. Defaults
            to False.
    """
    if content is None or isinstance(content, ImageClass):
        axes.set_axis_off()
        return
    if isinstance(content, Detections):
        draw_image(axes, view)
        _draw_boxes(axes, view, content, styles)
        if with_scores and content.scores is not None:
            _write_scores(axes, content, styles)
        return
    axes.imshow(
        colour_labels(content, styles),
        interpolation='nearest',
        extent=_image_extent(view),
    )
    _limit(axes, view)


def _draw_boxes(
    axes: Axes, view: ScopeView, found: Detections, styles: BoxStyles
) -> None:
    # The surest come first and shall lie on top.
    for index in reversed(range(len(found))):
        style = styles[int(found.labels[index])]
        if found.masks is not None:
            _draw_mask(axes, view, found.masks[index], style['edgecolor'])
        left, top, right, bottom = found.boxes[index]
        axes.add_patch(
            Rectangle(
                (left, top),
                right - left,
                bottom - top,
                fill=False,
                path_effects=HALO,
                **style,
            )
        )


def _write_scores(axes: Axes, found: Detections, styles: BoxStyles) -> None:
    for index in reversed(range(len(found))):
        left, top = found.boxes[index, :2]
        axes.text(
            left,
            top,
            f'{found.scores[index]:.2f}',
            color='white',
            fontsize=6.5,
            va='top',
            clip_on=True,
            bbox={
                'facecolor': styles[int(found.labels[index])]['edgecolor'],
                'edgecolor': 'none',
                'pad': 0.8,
            },
        )


def _draw_mask(
    axes: Axes, view: ScopeView, mask: np.ndarray, colour: str
) -> None:
    shade = np.zeros((*mask.shape, 4))
    shade[mask] = (*to_rgb(colour), 0.4)
    axes.imshow(shade, interpolation='nearest', extent=_image_extent(view))


def _limit(axes: Axes, view: ScopeView) -> None:
    height, width = view.image.shape[:2]
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def _image_extent(view: ScopeView) -> tuple[float, float, float, float]:
    height, width = view.image.shape[:2]
    return (0, width, height, 0)


def _canvas_extent(view: ScopeView) -> tuple[float, float, float, float]:
    return (0, view.canvas[1], view.canvas[0], 0)


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
