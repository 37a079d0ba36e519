"""What the demo scenes are painted with: shapes, textures, class ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

# SceneParse150 ids (objectInfo150.txt): what a scene may hold.
CLASS_IDS = {
    'building': 2,
    'sky': 3,
    'tree': 5,
    'road': 7,
    'windowpane': 9,
    'grass': 10,
    'sidewalk': 12,
    'person': 13,
    'mountain': 17,
    'car': 21,
    'house': 26,
    'sea': 27,
    'signboard': 44,
    'sand': 47,
    'flower': 67,
    'boat': 77,
    'streetlight': 88,
    'other': 0,  # litter: a thing outside the 150 classes
}
# Mean colour of each class and how far a single thing strays from it.
COLOURS = {
    'building': (150, 118, 104, 22),
    'sky': (140, 182, 228, 18),
    'tree': (44, 92, 48, 12),
    'road': (92, 92, 98, 8),
    'windowpane': (58, 74, 104, 14),
    'grass': (104, 152, 62, 14),
    'sidewalk': (176, 168, 158, 10),
    'person': (190, 84, 78, 34),
    'mountain': (104, 104, 132, 14),
    'car': (176, 44, 48, 30),
    'house': (206, 186, 150, 16),
    'sea': (46, 100, 140, 12),
    'signboard': (236, 202, 52, 14),
    'sand': (214, 190, 140, 10),
    'flower': (226, 92, 170, 22),
    'boat': (236, 236, 238, 10),
    'streetlight': (52, 52, 58, 8),
    'other': (120, 96, 40, 20),
}
# Smallest size of a cell of the texture noise, in output pixels, and its
# strength in grey levels.
TEXTURES = {
    'building': (7, 9),
    'sky': (60, 8),
    'tree': (3, 22),
    'road': (2, 6),
    'grass': (2, 13),
    'sidewalk': (4, 8),
    'mountain': (14, 14),
    'house': (9, 6),
    'sea': (5, 12),
    'sand': (2, 7),
}
# Drawn this much larger and averaged, so that edges look like a camera's;
# ids are sampled, never averaged.
SUPERSAMPLE = 2

Points = Sequence[tuple[float, float]]


class Canvas:
    """A picture and its class ids, painted back to front.

    Coordinates are fractions of the width and the height.

    Args:
        height (int): Rows of the finished picture.
        width (int): Columns of the finished picture.
        rng (np.random.Generator): Source of every random choice.
    """

    def __init__(
        self, height: int, width: int, rng: np.random.Generator
    ) -> None:
        self.size = (width * SUPERSAMPLE, height * SUPERSAMPLE)
        self.rng = rng
        self.rgb = np.zeros((self.size[1], self.size[0], 3), np.float32)
        self.ids = np.zeros((self.size[1], self.size[0]), np.uint8)

    def polygon(self, name: str, points: Points, shade: float = 1.0) -> None:
        """Paint a polygon of class ``name`` in its colour times ``shade``."""
        self._paint(name, points, shade, ImageDraw.ImageDraw.polygon)

    def ellipse(
        self, name: str, x: float, y: float, rx: float, ry: float
    ) -> None:
        """Paint an ellipse with centre (x, y) and radii (rx, ry)."""
        box = [(x - rx, y - ry), (x + rx, y + ry)]
        self._paint(name, box, 1.0, ImageDraw.ImageDraw.ellipse)

    def box(
        self, name: str, x0: float, y0: float, x1: float, y1: float
    ) -> None:
        """Paint an upright rectangle."""
        self.polygon(name, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)])

    def finish(self) -> tuple[Image.Image, Image.Image]:
        """Light the scene, add sensor noise and shrink to the final size.

        Returns:
            tuple[Image.Image, Image.Image]: RGB picture and 8-bit ids.
        """
        size = (self.size[0] // SUPERSAMPLE, self.size[1] // SUPERSAMPLE)
        height, width = self.ids.shape
        ramp = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
        light = self.rng.uniform(0.7, 1.15) + self.rng.uniform(-0.1, 0.1) * (
            ramp
        )
        tint = self.rng.normal(1.0, 0.03, 3).astype(np.float32)
        lit = self.rgb * light * tint
        image = Image.fromarray(lit.clip(0, 255).astype(np.uint8)).resize(
            size, Image.Resampling.BOX
        )
        noisy = np.asarray(image) + self.rng.normal(
            0, self.rng.uniform(1, 5), (size[1], size[0], 3)
        )
        image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        mask = Image.fromarray(self.ids[::SUPERSAMPLE, ::SUPERSAMPLE].copy())
        return image, mask

    def _paint(
        self, name: str, points: Points, shade: float, draw: Callable
    ) -> None:
        pixels = np.asarray(points) * self.size
        low = np.floor(pixels.min(0)).astype(int).clip(0, self.size)
        high = np.ceil(pixels.max(0) + 1).astype(int).clip(0, self.size)
        width, height = high - low
        if width <= 0 or height <= 0:
            return
        stencil = Image.new('1', (int(width), int(height)))
        shape = [tuple(p) for p in np.round(pixels - low).tolist()]
        draw(ImageDraw.Draw(stencil), shape, fill=1)
        inside = np.asarray(stencil)
        window = (slice(low[1], high[1]), slice(low[0], high[0]))
        colour = self._colour(name, height, width) * np.float32(shade)
        self.rgb[window][inside] = colour[inside]
        self.ids[window][inside] = CLASS_IDS[name]

    def _colour(self, name: str, height: int, width: int) -> np.ndarray:
        """Textured colour field of one thing, (height, width, 3)."""
        *mean, spread = COLOURS[name]
        base = np.asarray(mean) + self.rng.normal(0, spread / 2, 3)
        cell, strength = TEXTURES.get(name, (3, 5))
        cell *= SUPERSAMPLE
        grid = self.rng.normal(
            0, strength, (height // cell + 2, width // cell + 2)
        ).astype(np.float32)
        if name == 'sea':  # waves are wide and low
            grid = np.repeat(grid[:, ::4], 4, axis=1)[:, : grid.shape[1]]
        noise = Image.fromarray(grid).resize(
            (int(width), int(height)), Image.Resampling.BILINEAR
        )
        return (base + np.asarray(noise)[:, :, None]).astype(np.float32)
