"""Colours and figures that all pictures share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

# Okabe and Ito's colours, which differ for colour-blind readers too.
BLUE, ORANGE, GREEN, RED = '#0072b2', '#e69f00', '#009e73', '#d55e00'
PURPLE, GREY, INK = '#cc79a7', '#8a8a8a', '#222222'
SERIES = (BLUE, RED, GREEN, PURPLE, ORANGE)
# Boxes on photos; regions are outlined in green.
BOX_COLOURS = (BLUE, RED, ORANGE, INK, PURPLE, '#56b4e9')
BOX_LINES = ('-', '--', ':')
# Arguments of a matplotlib patch, by class.
BoxStyles = dict[int, dict]
DPI = 110
UNLABELLED = (235, 235, 235)


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as a PNG file, whose folder is made; needs no display."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, facecolor='white', bbox_inches='tight')
    return path


def plain_axes(axes: Axes) -> Axes:
    """Remove what is not data from a diagram."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(color='#e4e4e4', linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def class_palette(
    num_classes: int, palette: Sequence[Sequence[int]] | None = None
) -> np.ndarray:
    """Give every class a colour, (C, 3) uint8: the data set's, or hues.

    Raises ValueError if the palette has too few colours.
    """
    if palette is None:
        # Golden-ratio steps keep neighbouring classes apart.
        hues = (0.61803398875 * np.arange(num_classes)) % 1
        values = np.where(np.arange(num_classes) % 2, 0.95, 0.7)
        hsv = np.stack([hues, np.full(num_classes, 0.65), values], -1)
        return (255 * hsv_to_rgb(hsv)).astype(np.uint8)
    colours = np.asarray(palette, dtype=np.uint8)
    if len(colours) < num_classes:
        raise ValueError(
            f'the palette has {len(colours)} colours for {num_classes} classes'
        )
    return colours[:num_classes]


def colour_labels(labels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Paint classes (H, W) by a palette (C, 3); others are unlabelled."""
    known = (labels >= 0) & (labels < len(palette))
    painted = palette[np.where(known, labels, 0)]
    painted[~known] = UNLABELLED
    return painted


def class_legend(
    classes: Sequence[str],
    palette: np.ndarray,
    maps: Sequence[np.ndarray],
    most: int = 24,
) -> list[Patch]:
    """Name the classes that label maps show, largest areas at most, in order.

    'unlabelled' comes last.
    """
    values = np.concatenate([np.ravel(labels) for labels in maps])
    known = (values >= 0) & (values < len(classes))
    areas = np.bincount(values[known], minlength=len(classes))
    largest = np.argsort(-areas, kind='stable')[:most]
    shown = sorted(index for index in largest if areas[index])
    handles = [_patch(palette[index], str(classes[index])) for index in shown]
    if not known.all():
        handles.append(_patch(np.array(UNLABELLED), 'unlabelled'))
    return handles


def _patch(colour: np.ndarray, label: str) -> Patch:
    return Patch(facecolor=colour / 255, edgecolor=GREY, label=label)


def box_styles(labels: Iterable[int]) -> BoxStyles:
    """Give the classes that are to be seen a colour each.

    Colours are few, so that they differ for every reader; when they are used
    up, lines are dashed and then dotted.
    """
    styles = {}
    for place, label in enumerate(sorted({int(label) for label in labels})):
        turn, colour = divmod(place, len(BOX_COLOURS))
        styles[label] = {
            'edgecolor': BOX_COLOURS[colour],
            'linestyle': BOX_LINES[turn % len(BOX_LINES)],
            'linewidth': 1.4,
        }
    return styles


def box_legend(classes: Sequence[str], styles: BoxStyles) -> list[Line2D]:
    """Name the classes of boxes."""
    return [
        Line2D(
            [],
            [],
            color=style['edgecolor'],
            linestyle=style['linestyle'],
            linewidth=2,
            label=str(classes[label]),
        )
        for label, style in styles.items()
    ]
