"""Image files, decoded completely and as 8-bit colour, or refused."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mmscope.errors import DatasetLayoutError

from .files import no_file

# EXIF orientations that turn an image by a quarter.
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)
# What the last bytes of a complete file hold, padding aside.
ENDS = {'JPEG': b'\xff\xd9', 'MPO': b'\xff\xd9', 'PNG': b'IEND'}
TAIL = 64


class BrokenImageError(DatasetLayoutError):
    """An image file that cannot be decoded as it should be."""


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


@dataclass(frozen=True)
class Header:
    """What an image file says of itself.

    Args:
        kind (str): Pillow's name of the format, such as 'JPEG'.
        stored (tuple[int, int]): Width and height as the file has them.
        mode (str): Pillow's, such as 'L'.
        orientation (int): EXIF's; 1 is upright.
    """

    kind: str
    stored: tuple[int, int]
    mode: str
    orientation: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height after the EXIF rotation."""
        return self.stored[::-1] if self.turned else self.stored

    @property
    def turned(self) -> bool:
        """Whether loading swaps width and height."""
        return self.orientation in TURNED

    @property
    def turns_unseen(self) -> bool:
        """Whether loading turns it and keeps its size, as labels know it."""
        square = self.stored[0] == self.stored[1]
        return self.orientation != 1 and (square or not self.turned)


def read_header(path: str | os.PathLike) -> Header:
    """Look at an image file without decoding it.

    A file without the end that its kind has is decoded after all, since
    decoders fill what is missing with grey.

    Args:
        path (str | os.PathLike): Local file.

    Returns:
        Header: Size, mode and orientation.

    Raises:
        BrokenImageError: If it is no file, no image, or incomplete.
    """
    if problem := no_file(path):
        raise BrokenImageError(
            f'image {path} {problem}. Put it there, or remove it from the '
            'list or the annotations.'
        )
    try:
        with Image.open(path) as image:
            kind, mode, size = image.format, image.mode, image.size
            orientation = image.getexif().get(ORIENTATION, 1)
    # Pillow's decoders raise many types on damaged files.
    except Exception as error:
        raise _broken(path, error) from error
    with open(path, 'rb') as file:
        file.seek(-min(TAIL, os.stat(path).st_size), os.SEEK_END)
        complete = ENDS.get(kind, b'') in file.read()
    if not complete:
        decode_bgr(Path(path).read_bytes(), str(path))
    return Header(kind, size, mode, orientation)


@contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Name the image where a decoder fails that says nothing of it.

    Args:
        path (str | os.PathLike): What the block loads, a local file.

    Yields:
        None: The block runs inside.

    Raises:
        BrokenImageError: If the image is the reason; else what was raised.
    """
    try:
        yield
    except DatasetLayoutError:
        raise
    except Exception as error:
        # Decoders of all kinds fail in all ways: look what it was.
        decode_bgr(Path(path).read_bytes(), str(path))
        # mmcv's words for what OpenCV alone cannot read.
        if 'failed to load image' in str(error):
            raise _broken(path, error) from error
        raise


def _broken(path: str | os.PathLike, error: Exception) -> BrokenImageError:
    size = os.stat(path).st_size
    return BrokenImageError(
        f'image {path} ({size:,} bytes) cannot be read: {error}. Replace '
        'the file or remove it.'
    )


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
