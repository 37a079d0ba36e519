"""One image through a model of any host, and what every picture shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch import Tensor, nn

from mmscope.errors import UserError
from mmscope.models import observe
from mmscope.visualization.contents import predicted_content, true_content


def check_indices(indices: Sequence[int], number: int) -> Sequence[int]:
    """Refuse images that a data set does not have.

    Raises:
        ValueError: If one is outside.
    """
    wrong = [index for index in indices if not 0 <= index < number]
    if wrong:
        raise ValueError(
            f'image {wrong[0]} is outside the data set, which has {number} '
            f'images: indices go from 0 to {number - 1}'
        )
    return indices


def read_item(dataset: Any, index: int) -> dict:
    """Load an image, if its file is whole.

    Raises:
        UserError: See :func:`check_image`.
    """
    info = dataset.get_data_info(index)
    # What is rendered has a name and no file.
    if 'img' not in info and info.get('img_path') is not None:
        check_image(info['img_path'])
    return dataset[index]


def run_item(model: nn.Module, item: dict) -> tuple[Any, Any]:
    """Predict one image in one forward.

    Raises:
        ValueError: If it takes several forwards.
    """
    with observe(model) as records:
        (sample,) = model.test_step(pseudo_collate([item]))
    if len(records) != 1:
        raise ValueError(
            f'the image took {len(records)} forwards; pictures need one: '
            'test_cfg=dict(mode="whole") in mmseg, no test-time augmentation'
        )
    return sample, records[0]


def common_fields(
    dataset: Any, index: int, item: dict, sample: Any
) -> dict[str, Any]:
    """Collect what a :class:`View` of any kind holds, but for its canvas."""
    info = dataset.get_data_info(index)
    path = info.get('img_path')
    return {
        # Some data sets hold pixels instead of files.
        'name': str(index) if path is None else Path(path).stem,
        'image': rgb_image(item['inputs']),
        'prediction': predicted_content(sample),
        'label': true_content(sample, info),
    }


def check_image(path: str | Path) -> None:
    """Check that an image file is whole.

    Raises:
        UserError: If it is missing, no file, or cannot be decoded.
    """
    if '://' in str(path):
        return
    # A pipe would be waited for.
    if Path(path).exists() and not Path(path).is_file():
        raise UserError(f'image {path} cannot be read: it is no file')
    try:
        with Image.open(path) as image:
            image.load()
    # Pillow's decoders raise many types on damaged files.
    except Exception as error:
        raise UserError(f'image {path} cannot be read: {error}') from error


def rgb_image(inputs: Tensor) -> np.ndarray:
    """Turn a loaded BGR image (3, H, W) in 0-255 into RGB, (H, W, 3) uint8."""
    image = inputs.permute(1, 2, 0).cpu().numpy()[..., ::-1]
    return np.ascontiguousarray(image.clip(0, 255).astype(np.uint8))
