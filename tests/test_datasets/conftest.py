from __future__ import annotations

import pytest
from PIL import Image


def write_images(folder, count=1, size=(8, 8)):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.new('RGB', size, (index, 50, 100)).save(folder / f'{index}.JPEG')


@pytest.fixture
def image_folder(tmp_path):
    """Three classes, two training images and one for validation each."""
    root = tmp_path / 'data' / 'imagenet'
    for name in ('n01', 'n02', 'n03'):
        write_images(root / 'train' / name, 2)
        write_images(root / 'val' / name, 1)
    return root
