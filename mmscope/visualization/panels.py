"""Single panels of a picture; all use pixels of the image as coordinates."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from mmscope.visualization.style import BoxStyles, colour_labels
from mmscope.visualization.views import (
    Content,
    Detections,
    ImageClasses,
    ScopeView,
    View,
)

HEAT = 'inferno'
# White below every line: it is seen on any photo.
HALO = [withStroke(linewidth=2.6, foreground='white', alpha=0.85)]


def frame(axes: Axes) -> None:
    """Prepare axes for a picture: no ticks, square pixels."""
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_aspect('equal')


def draw_image(axes: Axes, view: View) -> None:
    """Draw the image alone."""
    axes.imshow(view.image, extent=image_extent(view))
    limit(axes, view)


def draw_importance(
    axes: Axes, view: ScopeView, metric: str | None = None
) -> None:
    """Draw the ranking of the regions over the grey image.

    That of one of the view's ``others``, or that which decided.
    """
    values = view.importance if metric is None else view.others[metric]
    grey = view.image.mean(-1)
    axes.imshow(grey, cmap='gray', vmin=0, vmax=255, extent=image_extent(view))
    axes.imshow(
        _ranked(values),
        cmap=HEAT,
        vmin=0,
        vmax=1,
        alpha=0.65,
        interpolation='nearest',
        extent=canvas_extent(view),
    )
    limit(axes, view)


def draw_content(
    axes: Axes,
    view: View,
    content: Content | None,
    styles: np.ndarray | BoxStyles,
    with_scores: bool = False,
) -> None:
    """Draw a label map or boxes; nothing where there is none.

    A class is no picture. ``styles`` are a label map's palette, (C, 3) uint8,
    or how boxes of each class look.
    """
    if content is None or isinstance(content, ImageClasses):
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
        extent=image_extent(view),
    )
    limit(axes, view)


def _draw_boxes(
    axes: Axes, view: View, found: Detections, styles: BoxStyles
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


def _draw_mask(axes: Axes, view: View, mask: np.ndarray, colour: str) -> None:
    shade = np.zeros((*mask.shape, 4))
    shade[mask] = (*to_rgb(colour), 0.4)
    axes.imshow(shade, interpolation='nearest', extent=image_extent(view))


def limit(axes: Axes, view: View) -> None:
    """Show the image and not its padding."""
    height, width = view.image.shape[:2]
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def image_extent(view: View) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of the image."""
    height, width = view.image.shape[:2]
    return (0, width, height, 0)


def canvas_extent(view: View) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of what the grid covers."""
    return (0, view.canvas[1], view.canvas[0], 0)


def _ranked(values: np.ndarray) -> np.ndarray:
    """Spread values evenly over [0, 1]: their ranking is all that is used."""
    if np.ptp(values) == 0:
        return np.zeros_like(values)
    ranks = values.ravel().argsort(kind='stable').argsort(kind='stable')
    return ranks.reshape(values.shape) / (values.size - 1)
