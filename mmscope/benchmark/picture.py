"""Speed against resolution as in the paper's Figure 6, and growth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mmscope.benchmark.grid_rows import GridRow
from mmscope.benchmark.growth import Curve
from mmscope.benchmark.models import DEIT, SCOPE, VIM
from mmscope.benchmark.subjects import PRODUCTS
from mmscope.visualization.style import (
    GREY,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SERIES,
    plain_axes,
)

KIND_COLOURS = {DEIT: ORANGE, VIM: RED, PRODUCTS: GREY}
PANEL = (4.4, 3.6)
AXIS_LABELS = {
    'tokens': 'tokens of one image',
    'batch': 'images of a forward',
    'threads': 'threads, batch 8',
}


def _panels(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    size = (PANEL[0] * columns, PANEL[1] * rows)
    figure = Figure(figsize=size, layout='constrained')
    return figure, figure.subplots(rows, columns, squeeze=False)


def grid_figure(rows: Sequence[GridRow]) -> Figure:
    """Draw log10 images/s against resolution, quartiles as bars.

    MambaScope (arXiv:2512.00647), Figure 6, has log-scaled FPS over
    resolutions; here there is a panel for each architecture and batch.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError(
            'nothing was measured, so there is nothing to draw: raise '
            '--budget-s or choose smaller cells'
        )
    archs = list(dict.fromkeys(row.arch for row in rows))
    batches = sorted({row.batch for row in rows})
    figure, panels = _panels(len(archs), len(batches))
    for i, arch in enumerate(archs):
        for j, batch in enumerate(batches):
            cell = [r for r in rows if (r.arch, r.batch) == (arch, batch)]
            _draw_speeds(plain_axes(panels[i][j]), cell)
            panels[i][j].set_title(f'{arch}, batch {batch}', color=INK)
    lines = panels[0][0].get_legend_handles_labels()
    figure.legend(*lines, loc='outside lower center', ncols=4, frameon=False)
    return figure


def _draw_speeds(axes: Axes, rows: Sequence[GridRow]) -> None:
    sizes = list(dict.fromkeys(row.resolution for row in rows))
    for name in dict.fromkeys(row.subject for row in rows):
        own = [row for row in rows if row.subject == name]
        speed = np.log10([row.images_per_s for row in own])
        spread = np.log10([row.images_per_s_iqr for row in own]).T
        axes.errorbar(
            [sizes.index(row.resolution) for row in own],
            speed,
            yerr=np.abs(spread - speed),
            marker='o',
            markersize=4,
            linewidth=1.6,
            color=_colour(own[0]),
            label=name,
        )
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlabel('resolution, pixels')
    axes.set_ylabel('log10 (images/s)')


def _colour(row: GridRow) -> str:
    """One hue for MambaScope, from dark (none exits) to light."""
    if row.kind != SCOPE:
        return KIND_COLOURS.get(row.kind, PURPLE)
    ratio = row.exit_ratio
    if ratio is None:
        ratio = row.exited or 0.0
    blue = np.array([0, 0x72, 0xB2]) / 255
    return to_hex(blue * (1 - ratio) + np.array([0.62, 0.85, 0.95]) * ratio)


def growth_figure(curves: Sequence[Curve]) -> Figure:
    """Draw curves of growth on logarithmic axes.

    Time above memory, a column for each axis; a grey line is linear (time
    against threads: inversely).

    Raises:
        ValueError: If there is no curve.
    """
    if not curves:
        raise ValueError('no point of growth was measured: raise --budget-s')
    names = list(dict.fromkeys(curve.axis for curve in curves))
    figure, panels = _panels(2, len(names))
    for (time, memory), axis in zip(panels.T, names, strict=True):
        own = [curve for curve in curves if curve.axis == axis]
        power = -1 if axis == 'threads' else 1
        points = [(c, c.x, c.ms, c.time_exponent) for c in own]
        _draw_growth(plain_axes(time), points, power)
        time.set_ylabel('milliseconds a forward')
        points = [(c, c.x, c.mib, c.memory_exponent) for c in own]
        _draw_growth(plain_axes(memory), points, max(power, 0))
        memory.set_ylabel('MiB a forward')
        for panel in (time, memory):
            panel.set_xlabel(AXIS_LABELS[axis])
    return figure


def _draw_growth(
    axes: Axes,
    points: Sequence[tuple[Curve, list, list, float | None]],
    power: int,
) -> None:
    """Draw points and exponents, and a line of a power unless that is 0."""
    start = None
    for index, (curve, *places, exponent) in enumerate(points):
        known = [(x, y) for x, y in zip(*places, strict=True) if y]
        if not known:
            continue
        start = start or known[0]
        fitted = '' if exponent is None else f', p = {exponent:.2f}'
        axes.plot(
            *zip(*known, strict=True),
            'o-',
            markersize=4,
            color=KIND_COLOURS.get(curve.subject, SERIES[index % len(SERIES)]),
            label=f'{curve.subject}{fitted}',
        )
    axes.set_xscale('log')
    axes.set_yscale('log')
    positions = sorted({x for curve, *_ in points for x in curve.x})
    axes.set_xticks(positions, [f'{x:g}' for x in positions])
    axes.xaxis.set_minor_locator(NullLocator())
    if start and power:
        y = start[1] * (np.array(positions) / start[0]) ** power
        axes.plot(positions, y, ':', color=GREY, label=f'p = {power}')
    axes.legend(frameon=False, fontsize=8)
