"""Speed against resolution as in the paper's Figure 6, and growth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

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


def grid_figure(rows: Sequence[dict]) -> Figure:
    """Draw log10 images/s against resolution.

    MambaScope (arXiv:2512.00647), Figure 6, has log-scaled FPS over
    resolutions; here there is a panel for each architecture and batch.

    Args:
        rows (Sequence[dict]): Rows of a grid.

    Returns:
        Figure: Quartiles are bars; MambaScope darker the fewer exit.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError(
            'nothing was measured, so there is nothing to draw: raise '
            '--budget-s or choose smaller cells'
        )
    archs = list(dict.fromkeys(row['arch'] for row in rows))
    batches = sorted({row['batch'] for row in rows})
    figure = Figure(
        figsize=(PANEL[0] * len(batches), PANEL[1] * len(archs)),
        layout='constrained',
    )
    panels = figure.subplots(len(archs), len(batches), squeeze=False)
    for i, arch in enumerate(archs):
        for j, batch in enumerate(batches):
            cell = [
                row
                for row in rows
                if (row['arch'], row['batch']) == (arch, batch)
            ]
            _draw_speeds(plain_axes(panels[i][j]), cell)
            panels[i][j].set_title(f'{arch}, batch {batch}', color=INK)
    lines = panels[0][0].get_legend_handles_labels()
    figure.legend(*lines, loc='outside lower center', ncols=4, frameon=False)
    return figure


def _draw_speeds(axes: Axes, rows: Sequence[dict]) -> None:
    sizes = list(dict.fromkeys(row['resolution'] for row in rows))
    for name in dict.fromkeys(row['subject'] for row in rows):
        own = [row for row in rows if row['subject'] == name]
        speed = np.log10([row['images_per_s'] for row in own])
        spread = np.log10([row['images_per_s_iqr'] for row in own]).T
        axes.errorbar(
            [sizes.index(row['resolution']) for row in own],
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


def _colour(row: dict) -> str:
    """One hue for MambaScope, from dark (none exits) to light."""
    if row['kind'] != SCOPE:
        return KIND_COLOURS.get(row['kind'], PURPLE)
    ratio = row['exit_ratio']
    if ratio is None:
        ratio = row.get('exited') or 0.0
    blue = np.array([0, 0x72, 0xB2]) / 255
    return to_hex(blue * (1 - ratio) + np.array([0.62, 0.85, 0.95]) * ratio)


def growth_figure(result: dict) -> Figure:
    """Draw curves of growth on logarithmic axes.

    Args:
        result (dict): ``curves`` with their exponents.

    Returns:
        Figure: Time above memory, a column for each axis; a grey line is
        linear (time against threads: inversely).

    Raises:
        ValueError: If there is no curve.
    """
    curves = result['curves']
    if not curves:
        raise ValueError('no point of growth was measured: raise --budget-s')
    axes = list(dict.fromkeys(curve['axis'] for curve in curves))
    figure = Figure(
        figsize=(PANEL[0] * len(axes), 2 * PANEL[1]), layout='constrained'
    )
    panels = figure.subplots(2, len(axes), squeeze=False)
    for column, axis in enumerate(axes):
        own = [curve for curve in curves if curve['axis'] == axis]
        for row, (key, label) in enumerate(
            (('ms', 'milliseconds a forward'), ('mib', 'MiB a forward'))
        ):
            _draw_growth(plain_axes(panels[row][column]), own, key)
            panels[row][column].set_xlabel(AXIS_LABELS[axis])
            panels[row][column].set_ylabel(label)
    return figure


def _draw_growth(axes: Axes, curves: Sequence[dict], key: str) -> None:
    name = {'ms': 'time', 'mib': 'memory'}[key]
    start = None
    for index, curve in enumerate(curves):
        known = [
            (x, y) for x, y in zip(curve['x'], curve[key], strict=True) if y
        ]
        exponent = curve[f'{name}_exponent']
        if not known:
            continue
        start = start or known[0]
        fitted = '' if exponent is None else f', p = {exponent:.2f}'
        colour = KIND_COLOURS.get(
            curve['subject'], SERIES[index % len(SERIES)]
        )
        axes.plot(
            *zip(*known, strict=True),
            'o-',
            markersize=4,
            color=colour,
            label=f'{curve["subject"]}{fitted}',
        )
    axes.set_xscale('log')
    axes.set_yscale('log')
    positions = sorted({x for curve in curves for x in curve['x']})
    axes.set_xticks(positions, [f'{x:g}' for x in positions])
    axes.xaxis.set_minor_locator(NullLocator())
    in_threads = curves[0]['axis'] == 'threads'
    if start and not (in_threads and key == 'mib'):
        _draw_linear(axes, start, positions, -1 if in_threads else 1)
    axes.legend(frameon=False, fontsize=8)


def _draw_linear(
    axes: Axes, start: tuple[float, float], x: Sequence[float], power: int
) -> None:
    y = start[1] * (np.array(x) / start[0]) ** power
    axes.plot(x, y, ':', color=GREY, label=f'p = {power}')
