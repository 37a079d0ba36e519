"""Reads an image completely and as 8-bit colour, or says why not."""

from __future__ import annotations

import io

import mmengine.fileio as fileio
import numpy as np
from mmcv.transforms import LoadImageFromFile
from PIL import Image, ImageOps

from mmscope.errors import DatasetLayoutError
from mmscope.registry import TRANSFORMS


class BrokenImageError(DatasetLayoutError):
    """An image file that cannot be decoded as it should be."""


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Load an image by Pillow, as ViM's own training does.

    A damaged file is an error that names it: other decoders fill what is
    missing with grey or return nothing. Every other kind of image has one
    defined result.

    Example::

        pipeline = [dict(type='mmscope.LoadImage')]

    Args:
        **kwargs (object): Of mmcv's ``LoadImageFromFile``; ``backend_args``
            counts, the colour type is always 'color' and the decoder Pillow.
    """

    def transform(self, results: dict) -> dict:
        """Add the image.

        Args:
            results (dict): With ``img_path``, or with ``img`` where an
                inferencer has loaded it already.

        Returns:
            dict: With ``img``, (H, W, 3) uint8 in BGR order, ``img_shape``
            and ``ori_shape``.

        Raises:
            BrokenImageError: If the file is damaged or of a kind without a
                known range of values.
        """
        if 'img' in results:
            return results
        path = results['img_path']
        content = fileio.get(path, backend_args=self.backend_args)
        results['img'] = decode_bgr(content, path)
        results['img_shape'] = results['img'].shape[:2]
        results['ori_shape'] = results['img'].shape[:2]
        return results


def decode_bgr(content: bytes, name: str) -> np.ndarray:
    """Decode an image file.

    Grey is repeated, transparency dropped, palettes and CMYK are converted,
    16-bit grey keeps its upper 8 bits, EXIF rotation is applied.

    Args:
        content (bytes): The file.
        name (str): What the message calls it.

    Returns:
        np.ndarray: (H, W, 3) uint8, BGR.

    Raises:
        BrokenImageError: See :meth:`LoadImage.transform`.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            rgb = np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    # Pillow's decoders raise many types on damaged files.
    except Exception as error:
        raise BrokenImageError(
            f'image {name} ({len(content):,} bytes) cannot be read: {error}. '
            'Replace the file or remove it.'
        ) from error
    return np.ascontiguousarray(rgb[:, :, ::-1])


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == 'F' or image.mode.startswith('I'):
        values = np.asarray(image)
        if image.mode == 'F' or values.min() < 0 or values.max() > 65535:
            raise ValueError(
                f'mode {image.mode!r} has no known range of values, convert '
                'it to 8 bits per channel'
            )
        # Pillow's own conversion would clip everything above 255.
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if 'transparency' in image.info:
        image = image.convert('RGBA')
    return image.convert('RGB')
