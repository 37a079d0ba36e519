"""Pictures of what a classifier said, one an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmscope.registry import HOOKS

# Below it a label cannot be read.
SMALLEST_SIDE = 256


@HOOKS.register_module()
class ClassPicturesHook(Hook):
    """Draw every tested image with its label and prediction.

    By mmpretrain's ``UniversalVisualizer``, as its own ``VisualizationHook``,
    which draws the model's input instead of the file: in BGR order, as small
    as it is, and over an image of another class that is called the same.

    Example::

        custom_hooks = [
            dict(type='mmscope.ClassPicturesHook', out_dir='pictures'),
        ]

    Args:
        out_dir (str): Pictures lie in it as the images do in their split,
            ``out_dir/class/.../name``; those of no known split under their
            whole path.
    """

    def __init__(self, out_dir: str) -> None:
        self.out_dir = Path(out_dir)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Draw the images of a batch."""
        dataset = runner.test_dataloader.dataset
        split = Path(getattr(dataset, 'img_prefix', ''))
        for index, sample in enumerate(outputs or ()):
            path = Path(sample.img_path)
            image = _read(path) if path.is_file() else _seen(data_batch, index)
            shown = sample.clone()
            if len(sample.get('pred_label', ())) == 1:
                # Merged views have a mean score and the first one's label.
                shown.set_pred_label(sample.pred_score.argmax())
            runner.visualizer.visualize_cls(
                image,
                shown,
                rescale_factor=max(1, SMALLEST_SIDE / min(image.shape[:2])),
                out_file=str(self.out_dir / _below(path, split)),
            )


def _below(path: Path, folder: Path) -> Path:
    """The path as seen from a folder, never one that leads out of it."""
    if path.is_relative_to(folder) and '..' not in path.parts:
        return path.relative_to(folder)
    return Path(*(x for x in path.parts if x not in (path.anchor, '..')))


def _read(path: Path) -> np.ndarray:
    import mmcv  # whoever imports the room may have none

    return mmcv.imread(path, channel_order='rgb')


def _seen(data_batch: dict, index: int) -> np.ndarray:
    """What the model saw, in RGB, of an image that is no file."""
    inputs = data_batch['inputs']
    if not isinstance(inputs[0], Tensor) or inputs[0].dim() > 3:
        inputs = inputs[0]  # several views of each: the first one
    pixels = inputs[index].permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(pixels[..., ::-1], np.uint8)
