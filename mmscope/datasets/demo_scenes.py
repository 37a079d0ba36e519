"""Rendered outdoor scenes with ADE20K class ids, for demos and tests.

Plain scenes hold two or three large regions. Cluttered ones add dozens of
small things, from a few pixels to an eighth of the picture. Classes differ in
colour, texture, shape and place, so a short training learns them, while
things smaller than a coarse patch need the fine one. numpy and PIL only.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from .scene_canvas import Canvas
from .scene_things import (
    draw_boat,
    draw_car,
    draw_house,
    draw_person,
    draw_tree,
)


def render_scene(
    rng: np.random.Generator, height: int, width: int, cluttered: bool
) -> tuple[Image.Image, Image.Image]:
    """Render one scene and its masks.

    Args:
        rng (np.random.Generator): Source of every random choice.
        height (int): Rows.
        width (int): Columns.
        cluttered (bool): Whether many small things are added.

    Returns:
        tuple[Image.Image, Image.Image]: RGB picture and 8-bit ADE20K ids.
    """
    canvas = Canvas(height, width, rng)
    place = rng.choice(['meadow', 'coast', 'street'])
    horizon = rng.uniform(0.35, 0.6)
    canvas.box('sky', 0, 0, 1, 1)
    _PLACES[place](canvas, rng, horizon, cluttered)
    for x, y in rng.random((rng.integers(0, 4), 2)):
        canvas.ellipse('other', x, 1 - y * (1 - horizon), 0.02, 0.015)
    return canvas.finish()


def _meadow(
    canvas: Canvas, rng: np.random.Generator, horizon: float, cluttered: bool
) -> None:
    """Mountains, grass, trees; cluttered: flowers, people, houses."""
    if rng.random() < 0.7:
        _ridge(canvas, rng, horizon)
    canvas.box('grass', 0, horizon, 1, 1)
    if not cluttered:
        if rng.random() < 0.6:
            name = rng.choice(['tree', 'house'])
            x, size = rng.uniform(0.2, 0.8), rng.uniform(0.35, 0.6)
            (draw_tree if name == 'tree' else draw_house)(
                canvas, rng, x, rng.uniform(horizon + 0.1, 0.9), size
            )
        return
    for y in _depths(rng, rng.integers(5, 10), horizon, 0.75):
        draw = draw_house if rng.random() < 0.3 else draw_tree
        draw(canvas, rng, rng.random(), y, _near(y, horizon, 0.15, 0.5))
    for y in _depths(rng, rng.integers(12, 24), horizon + 0.05, 1.0):
        size = _near(y, horizon, 0.03, 0.1)
        canvas.ellipse('flower', rng.random(), y, size * 0.7, size)
    for y in _depths(rng, rng.integers(3, 8), horizon + 0.02, 0.95):
        draw_person(canvas, rng, rng.random(), y, _near(y, horizon, 0.1, 0.45))


def _coast(
    canvas: Canvas, rng: np.random.Generator, horizon: float, cluttered: bool
) -> None:
    """Sea and sand; cluttered: many boats and people."""
    if rng.random() < 0.3:
        _ridge(canvas, rng, horizon)
    canvas.box('sea', 0, horizon, 1, 1)
    shore = rng.uniform(horizon + 0.2, 0.95)
    tilt = rng.uniform(-0.1, 0.1)
    canvas.polygon(
        'sand', [(0, shore + tilt), (1, shore - tilt), (1, 1), (0, 1)]
    )
    if not cluttered:
        if rng.random() < 0.5:
            y = rng.uniform(horizon + 0.1, shore)
            draw_boat(canvas, rng, rng.uniform(0.2, 0.8), y, 0.4)
        return
    for y in _depths(rng, rng.integers(6, 13), horizon + 0.01, shore - 0.05):
        draw_boat(canvas, rng, rng.random(), y, _near(y, horizon, 0.08, 0.42))
    for y in _depths(rng, rng.integers(3, 8), shore, 1.0):
        draw_person(canvas, rng, rng.random(), y, _near(y, horizon, 0.1, 0.36))


def _street(
    canvas: Canvas, rng: np.random.Generator, horizon: float, cluttered: bool
) -> None:
    """Road, pavement, buildings; cluttered: cars, people, lamps, signs."""
    curb = horizon + rng.uniform(0.12, 0.2)
    x = rng.uniform(-0.2, 0.0) if cluttered else rng.uniform(0.0, 0.4)
    while x < 1.0:
        wide = rng.uniform(0.15, 0.35) if cluttered else rng.uniform(0.4, 0.6)
        top = rng.uniform(0.05, horizon - 0.15)
        canvas.box('building', x, top, x + wide, horizon + 0.06)
        if cluttered:
            _windows(canvas, rng, x, top, x + wide, horizon)
        x += wide + (0.0 if cluttered else 1.0)
    ground = 'sidewalk' if cluttered or rng.random() < 0.5 else 'grass'
    canvas.box(ground, 0, horizon + 0.04, 1, 1)
    canvas.box('road', 0, curb, 1, 1)
    if not cluttered:
        return
    for x in rng.random(rng.integers(1, 4)):
        draw_tree(canvas, rng, x, curb, rng.uniform(0.2, 0.4))
    for x in rng.random(rng.integers(2, 5)):
        canvas.box('streetlight', x, curb - 0.4, x + 0.016, curb)
        canvas.box('streetlight', x, curb - 0.42, x + 0.06, curb - 0.39)
    for x in rng.random(rng.integers(2, 6)):
        y, size = rng.uniform(0.15, curb - 0.15), rng.uniform(0.04, 0.13)
        canvas.box('signboard', x, y, x + size, y + size * 0.8)
    for x in rng.random(rng.integers(4, 11)):
        y = rng.uniform(curb - 0.06, curb)
        draw_person(canvas, rng, x, y, rng.uniform(0.12, 0.3))
    for y in _depths(rng, rng.integers(3, 8), curb + 0.05, 1.0):
        draw_car(canvas, rng, rng.random(), y, _near(y, horizon, 0.12, 0.5))


_PLACES = {'meadow': _meadow, 'coast': _coast, 'street': _street}


def _depths(
    rng: np.random.Generator, count: int, far: float, near: float
) -> np.ndarray:
    """Ground lines of ``count`` things, far ones first."""
    return np.sort(rng.uniform(far, max(near, far + 0.01), count))


def _near(y: float, horizon: float, far: float, near: float) -> float:
    """Size of a thing that stands at height ``y`` below the horizon."""
    return far + (near - far) * min(1.0, (y - horizon) / (1.0 - horizon))


def _ridge(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    xs = np.linspace(0, 1, 9)
    ys = horizon - rng.uniform(0.03, 0.3) * rng.uniform(0.3, 1.0, 9)
    points = [*zip(xs.tolist(), ys.tolist(), strict=True)]
    canvas.polygon('mountain', [(0, horizon), *points, (1, horizon)])


def _windows(
    canvas: Canvas,
    rng: np.random.Generator,
    x0: float,
    y0: float,
    x1: float,
    y1: float,
) -> None:
    step, pane = rng.uniform(0.08, 0.14), rng.uniform(0.5, 0.65)
    for x in np.arange(x0 + step * 0.3, x1 - step * pane, step):
        for y in np.arange(y0 + step * 0.3, y1 - step, step * 1.2):
            canvas.box('windowpane', x, y, x + step * pane, y + step * pane)
