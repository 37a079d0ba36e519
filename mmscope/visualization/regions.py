"""Panels of regions and patches: what was refined, kept or merged."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from mmscope.visualization.panels import (
    canvas_extent,
    draw_image,
    image_extent,
    limit,
)
from mmscope.visualization.style import GREEN, INK, class_palette
from mmscope.visualization.views import ScopeView, StageView, View

VEIL = 0.72
TINT = 0.65


def draw_refined(axes: Axes, view: ScopeView) -> None:
    """Veil what is not refined, and outline what is."""
    _draw_chosen(axes, view, view.refined, 'nothing refined')


def draw_kept(axes: Axes, view: View, stage: StageView) -> None:
    """Veil the patches that are gone, and outline those that are left."""
    _draw_chosen(axes, view, stage.kept, 'no patch left')


def draw_groups(axes: Axes, view: View, stage: StageView) -> None:
    """Colour the patches that share a token; lone ones stay the photo.

    The first patch of a group, in raster order, gives it its colour: a group
    that grows by later patches keeps it in the next stage.
    """
    labels = merged_labels(stage.groups)
    grey = view.image.mean(-1, keepdims=True)
    merged = _by_pixel(labels > 0, view)[..., None]
    photo = np.where(merged, grey, view.image).astype(np.uint8)
    axes.imshow(photo, extent=image_extent(view))
    tint = np.zeros((*labels.shape, 4))
    palette = class_palette(labels.size) / 255
    tint[..., :3] = palette[np.maximum(labels - 1, 0)]
    tint[..., 3] = np.where(labels > 0, TINT, 0.0)
    axes.imshow(tint, interpolation='nearest', extent=canvas_extent(view))
    axes.add_collection(
        LineCollection(_borders(labels, view), colors='white', linewidths=0.8)
    )
    limit(axes, view)


def merged_labels(groups: np.ndarray) -> np.ndarray:
    """Label groups of several patches of (h, w) tokens, 0 for lone ones.

    A label is 1 + the raster index of the first patch of its group.
    """
    _, first, inverse, sizes = np.unique(
        groups.ravel(),
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    labels = np.where(sizes > 1, first + 1, 0)
    return labels[inverse].reshape(groups.shape)


def _draw_chosen(
    axes: Axes, view: View, chosen: np.ndarray, otherwise: str
) -> None:
    """Veil all but some cells, and outline these; say so if none is."""
    draw_image(axes, view)
    veil = np.ones((*chosen.shape, 4))
    veil[..., 3] = np.where(chosen, 0.0, VEIL)
    axes.imshow(veil, interpolation='nearest', extent=canvas_extent(view))
    axes.add_collection(
        LineCollection(_borders(chosen, view), colors=GREEN, linewidths=1.3)
    )
    if not chosen.any():
        height, width = view.image.shape[:2]
        axes.text(
            width / 2,
            height / 2,
            otherwise,
            ha='center',
            va='center',
            fontsize=10,
            color=INK,
        )
    limit(axes, view)


def _by_pixel(cells: np.ndarray, view: View) -> np.ndarray:
    """Give each pixel of the image the value of its cell, (H, W)."""
    rows, columns = (
        ((np.arange(pixels) + 0.5) * number / covered).astype(int)
        for pixels, number, covered in zip(
            view.image.shape, cells.shape, view.canvas, strict=False
        )
    )
    return cells[rows][:, columns]


def _borders(
    labels: np.ndarray, view: View
) -> list[list[tuple[float, float]]]:
    """Find the segments between unlike cells, in pixels; outside lies 0."""
    rows, columns = labels.shape
    high, wide = view.canvas[0] / rows, view.canvas[1] / columns
    padded = np.pad(labels, 1)
    lines = []
    for r, c in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]):
        lines.append([(c * wide, r * high), (c * wide, (r + 1) * high)])
    for r, c in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1]):
        lines.append([(c * wide, r * high), ((c + 1) * wide, r * high)])
    return lines
