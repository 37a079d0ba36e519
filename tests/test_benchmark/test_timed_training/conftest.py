from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

COLOURS = {'blue': (40, 60, 200), 'green': (40, 200, 60)}


def write_photos(root, per_class=4, size=32, seed=0):
    """Write noisy images of one colour, in a folder a class."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            image = np.array(colour) + rng.normal(0, 40, (size, size, 3))
            image = Image.fromarray(image.clip(0, 255).astype(np.uint8))
            image.save(root / name / f'{i}.png')


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    write_photos(folder / 'train', 6)
    write_photos(folder / 'test', 2, seed=1)
    return folder
