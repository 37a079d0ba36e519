"""From what a stream holds to inputs of a model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import Compose
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmscope.datasets.loading import LoadImage
from mmscope.errors import UserError
from mmscope.visualization.forward import check_image

Item = dict[str, Any]


@dataclass(frozen=True)
class ImageFailure:
    """An image that could not be read or is too small; the others go on.

    Attributes:
        name (str): Its path, or 'image N' counted from 0.
        reason (str): What was wrong.
    """

    name: str
    reason: str


class ImageReader:
    """Makes inputs of paths and pictures by a config's own pipeline.

    Files are decoded by the pipeline's loader, so that results are those of
    the config; loaders that fill what a damaged file lacks with grey are
    checked by a complete decoding first.

    Args:
        pipeline (Sequence[dict] | None): Steps of a test pipeline that need
            no annotations; None for tensors and items alone. Defaults to
            None.
        channels (int | None): Of a preprocessed tensor; None takes any.
            Defaults to None.
        dtype (torch.dtype): Of a preprocessed tensor. Defaults to float32.
    """

    def __init__(
        self,
        pipeline: Sequence[dict] | None = None,
        channels: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._channels, self._dtype = channels, dtype
        self._steps = None if pipeline is None else Compose(pipeline)
        self._loader = None
        if self._steps is not None:
            self._loader = next(
                (
                    step
                    for step in self._steps.transforms
                    if isinstance(step, LoadImageFromFile)
                ),
                None,
            )

    @staticmethod
    def must_decode(image: Any) -> bool:
        """Tell whether an image goes through the pipeline."""
        return isinstance(image, (str, PathLike, np.ndarray))

    def check_kind(self, image: Any) -> None:
        """Refuse what is no image.

        Args:
            image (Any): Of a stream.

        Raises:
            UserError: If it is of a wrong type, or would need a pipeline.
        """
        if self.must_decode(image):
            if self._steps is None:
                raise UserError(
                    'paths and pictures need the pipeline that makes inputs '
                    'of them: give pipeline=, or a model with its config '
                    '(model.cfg)'
                )
        elif not isinstance(image, (Tensor, Mapping)):
            raise UserError(
                'an image is a path, a picture (H, W, 3) uint8 in BGR, a '
                'preprocessed tensor (C, H, W), or an item of a data set '
                f'(a dict with inputs), got {type(image).__name__}'
            )

    def __call__(self, number: int, image: Any) -> Item | ImageFailure:
        """Read one image.

        Args:
            number (int): Its place in the stream.
            image (Any): See :meth:`check_kind`.

        Returns:
            dict | ImageFailure: ``inputs`` (C, H, W) and, unless the image
            was a preprocessed tensor, ``data_samples``.

        Raises:
            UserError: See :meth:`check_kind`.
        """
        self.check_kind(image)
        try:
            return self._read(number, image)
        # Decoders and transforms raise many types on damaged images.
        except Exception as error:
            reason = f'{type(error).__name__}: {error}'
            return ImageFailure(name_of(number, image), reason)

    def _read(self, number: int, image: Any) -> Item:
        if isinstance(image, Tensor):
            return {'inputs': self._checked(image)}
        if isinstance(image, Mapping):
            return _checked_item(image)
        if isinstance(image, np.ndarray):
            return self._of_picture(number, image)
        path = fspath(image)
        if os.path.exists(path) and not os.path.isfile(path):
            # A pipe would be waited for.
            raise ValueError(f'{path} is no file')
        if not isinstance(self._loader, LoadImage):
            check_image(path)
        return _checked_item(self._steps({'img_path': path, 'img_id': number}))

    def _checked(self, image: Tensor) -> Tensor:
        wanted = self._channels
        right = image.ndim == 3 and wanted in (None, image.shape[0])
        if not right or image.dtype != self._dtype:
            raise ValueError(
                f'a preprocessed tensor is ({wanted or "C"}, H, W) '
                f'{self._dtype}, as the model computes, got '
                f'{tuple(image.shape)} {image.dtype}'
            )
        # To look at what lies on a GPU would wait for it.
        on_cpu = image.device.type == 'cpu'
        odd = int((~image.isfinite()).sum()) if on_cpu else 0
        if odd:
            raise ValueError(
                f'{odd} of {image.numel()} values of the preprocessed tensor '
                'are NaN or infinite'
            )
        return image

    def _of_picture(self, number: int, image: np.ndarray) -> Item:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                'a picture is (H, W, 3) uint8 in BGR, got '
                f'{image.shape} {image.dtype}'
            )
        size = image.shape[:2]
        if getattr(self._loader, 'to_float32', False):
            image = image.astype(np.float32)
        results: Any = {
            'img': image,
            'img_path': name_of(number, image),
            'img_id': number,
            'img_shape': size,
            'ori_shape': size,
        }
        for step in self._steps.transforms:
            if step is not self._loader:
                results = step(results)
        return _checked_item(results)


def _checked_item(item: Any) -> Item:
    """Take what the model needs of an item, if it is there."""
    found = item if isinstance(item, Mapping) else {}
    inputs, sample = found.get('inputs'), found.get('data_samples')
    if isinstance(inputs, np.ndarray):
        inputs = torch.from_numpy(inputs)
    if not isinstance(inputs, Tensor) or inputs.ndim != 3:
        shape = getattr(inputs, 'shape', None)
        got = type(inputs).__name__ if shape is None else tuple(shape)
        raise ValueError(
            'an item, such as a pipeline packs, has inputs, a tensor '
            f'(C, H, W), got {got}'
        )
    if not isinstance(sample, BaseDataElement):
        raise ValueError(
            "an item has data_samples, the host's data sample, got "
            f'{type(sample).__name__}: give a tensor that is preprocessed, '
            'or what a pipeline packs'
        )
    return {'inputs': inputs, 'data_samples': sample}


def name_of(number: int, image: Any) -> str:
    """Name an image of a stream.

    Args:
        number (int): Its place.
        image (Any): See :meth:`ImageReader.check_kind`.

    Returns:
        str: Its path, or 'image N'.
    """
    if isinstance(image, (str, PathLike)):
        return fspath(image)
    return f'image {number}'
