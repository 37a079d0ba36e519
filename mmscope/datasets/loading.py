"""Reads an image completely and as 8-bit colour, or says why not."""

from __future__ import annotations

import mmengine.fileio as fileio
from mmcv.transforms import LoadImageFromFile

from mmscope.registry import TRANSFORMS

from .decoding import decode_bgr


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
