"""Rendered pictures of one thing each: a data set that needs no file."""

from __future__ import annotations

import numpy as np
from mmengine.dataset import BaseDataset

from mmscope.registry import DATASETS

from .scene_canvas import Canvas
from .scene_things import THINGS

CLASSES = tuple(THINGS)
GROUNDS = ('grass', 'sand', 'sea', 'sidewalk', 'road')
# Height of the thing, as a share of the picture: even on a logarithm.
SIZES = (0.1, 0.8)


def render_object(
    rng: np.random.Generator, name: str, side: int
) -> np.ndarray:
    """Render a thing somewhere on a plain ground.

    Args:
        rng (np.random.Generator): Source of every random choice.
        name (str): One of ``CLASSES``.
        side (int): Rows and columns in pixels.

    Returns:
        np.ndarray: (side, side, 3) uint8, RGB.
    """
    canvas = Canvas(side, side, rng)
    horizon = rng.uniform(0.3, 0.6)
    canvas.box('sky', 0, 0, 1, 1)
    canvas.box(rng.choice(GROUNDS), 0, horizon, 1, 1)
    for x, y in rng.random((rng.integers(0, 6), 2)):
        canvas.ellipse('other', x, horizon + y * (1 - horizon), 0.03, 0.02)
    size = np.exp(rng.uniform(*np.log(SIZES)))
    ground = rng.uniform(max(horizon, size), 1.0)
    THINGS[name](canvas, rng, rng.uniform(0.15, 0.85), ground, size)
    return np.asarray(canvas.finish()[0])


@DATASETS.register_module()
class RenderedObjects(BaseDataset):
    """Pictures of boats, cars, flowers, houses, people, signs, lamps, trees.

    Picture i of a seed depends on the seed and i alone: it is rendered when
    it is asked for (a few ms), and the same each time. What is large is told
    apart in a coarse look; what is small needs the fine one.

    Args:
        num_images (int): Pictures; classes take turns.
        seed (int): Seed of every random choice. Splits take different ones.
            Defaults to 0.
        side (int): Rows and columns in pixels. Defaults to 64.
        **kwargs (object): Of MMEngine's ``BaseDataset``: ``pipeline``, ...
            The pipeline begins with ``img`` (side, side, 3) uint8 in BGR.
    """

    METAINFO = {'classes': CLASSES}

    def __init__(
        self, num_images: int, seed: int = 0, side: int = 64, **kwargs: object
    ) -> None:
        self.num_images, self.seed, self.side = num_images, seed, side
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """List what will be rendered."""
        return [
            {'picture': i, 'gt_label': i % len(CLASSES)}
            for i in range(self.num_images)
        ]

    def get_data_info(self, idx: int) -> dict:
        """Render a picture.

        Args:
            idx (int): Number of the picture.

        Returns:
            dict: ``img``, ``img_shape``, ``ori_shape``, ``gt_label`` and
            ``img_path``, a name that says which picture it is.
        """
        info = super().get_data_info(idx)
        name = CLASSES[info['gt_label']]
        rng = np.random.default_rng([self.seed, info['picture']])
        image = render_object(rng, name, self.side)
        shape = image.shape[:2]
        return {
            **info,
            'img': np.ascontiguousarray(image[..., ::-1]),
            'img_shape': shape,
            'ori_shape': shape,
            'img_path': f'{name}_{self.seed}_{info["picture"]:05d}.png',
        }
