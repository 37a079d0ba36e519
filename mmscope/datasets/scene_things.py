"""Things of the demo scenes: what a canvas is asked to paint.

Each takes (canvas, rng, x, y, size): x the middle, y the ground line, size
the height, all as fractions of the picture.
"""

from __future__ import annotations

import numpy as np

from .scene_canvas import Canvas


def draw_tree(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float
) -> None:
    """A trunk under five leafy ellipses."""
    canvas.box('tree', x - size * 0.05, y - size * 0.5, x + size * 0.05, y)
    for _ in range(5):
        dx, dy = rng.normal(0, size * 0.13, 2)
        canvas.ellipse(
            'tree', x + dx, y - size * 0.68 + dy, size * 0.22, size * 0.26
        )


def draw_house(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float
) -> None:
    """Walls, a roof and mostly two windows."""
    half, wall = size * 0.45, size * 0.5
    canvas.box('house', x - half, y - wall, x + half, y)
    roof = [(x - half * 1.15, y - wall), (x + half * 1.15, y - wall)]
    canvas.polygon('house', [*roof, (x, y - wall - size * 0.4)], 0.55)
    if rng.random() < 0.8:
        pane = size * 0.12
        for side in (-0.5, 0.5):
            left = x + side * half - pane / 2
            canvas.box(
                'windowpane', left, y - wall * 0.7, left + pane, y - wall * 0.4
            )


def draw_person(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float
) -> None:
    """A body and a head."""
    wide = size * 0.22
    canvas.box('person', x - wide / 2, y - size * 0.8, x + wide / 2, y)
    canvas.ellipse('person', x, y - size * 0.9, wide * 0.4, size * 0.12)


def draw_car(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float
) -> None:
    """A body, a cabin and two wheels."""
    high = size * 0.42
    canvas.box('car', x - size / 2, y - high * 0.6, x + size / 2, y)
    cabin = [
        (x - size * 0.36, y - high * 0.6),
        (x + size * 0.36, y - high * 0.6),
    ]
    top = [(x + size * 0.2, y - high), (x - size * 0.22, y - high)]
    canvas.polygon('car', [*cabin, *top], 0.6)
    for side in (-0.3, 0.3):
        wheel = (x + side * size, y, size * 0.09, size * 0.1)
        canvas.ellipse('car', *wheel)


def draw_boat(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float
) -> None:
    """A hull, mostly with a sail."""
    half, hull = size / 2, size * 0.2
    canvas.polygon(
        'boat',
        [
            (x - half, y - hull),
            (x + half, y - hull),
            (x + half * 0.7, y),
            (x - half * 0.7, y),
        ],
    )
    if rng.random() < 0.7:
        sail = [(x, y - hull), (x, y - size), (x + half * 0.8, y - hull)]
        canvas.polygon('boat', sail, 0.92)


def draw_flower(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float
) -> None:
    """Five petals on a stem."""
    canvas.box('tree', x - size * 0.03, y - size * 0.6, x + size * 0.03, y)
    turn = rng.uniform(0, 2 * np.pi)
    for angle in turn + np.arange(5) * 2 * np.pi / 5:
        dx, dy = np.cos(angle) * size * 0.2, np.sin(angle) * size * 0.2
        canvas.ellipse(
            'flower', x + dx, y - size * 0.7 + dy, size * 0.13, size * 0.13
        )


def draw_signboard(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float
) -> None:
    """A board on a post."""
    half = size * rng.uniform(0.25, 0.4)
    canvas.box('streetlight', x - size * 0.03, y - size, x + size * 0.03, y)
    canvas.box('signboard', x - half, y - size, x + half, y - size * 0.55)


def draw_streetlight(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float
) -> None:
    """A post with an arm to one side."""
    side = rng.choice([-1, 1])
    arm = sorted([x, x + side * size * 0.25])
    canvas.box('streetlight', x - size * 0.03, y - size, x + size * 0.03, y)
    canvas.box('streetlight', arm[0], y - size, arm[1], y - size * 0.92)


THINGS = {
    'boat': draw_boat,
    'car': draw_car,
    'flower': draw_flower,
    'house': draw_house,
    'person': draw_person,
    'signboard': draw_signboard,
    'streetlight': draw_streetlight,
    'tree': draw_tree,
}
