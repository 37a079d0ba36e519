"""Masks of class ids that belong to their images."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import numpy as np
from PIL import Image

from mmscope.errors import DatasetLayoutError

from .decoding import read_header
from .files import some

# Pillow's modes that the host reads as class ids.
ID_MODES = ('L', 'P')
IGNORED = 255
# They change ids at every edge.
LOSSY = ('JPEG', 'MPO', 'WEBP')
# More than this of all pixels without a class is a sign of a shift.
MUCH = 0.2


def check_pair(
    image: str | PathLike, mask: str | PathLike, name: str = 'the data'
) -> bool:
    """Check the headers of an image and its mask.

    Loading turns an image by its EXIF orientation and never its mask.

    Args:
        image (str | PathLike): The image file.
        mask (str | PathLike): Its mask.
        name (str): What messages call the data. Defaults to 'the data'.

    Returns:
        bool: Whether nobody can tell which way round the mask lies: the
        image is turned, and would have the size of its mask either way.

    Raises:
        DatasetLayoutError: If one cannot be read, the mask is not 8-bit with
            one channel, or their sizes differ.
    """
    picture, ids = read_header(image), _mask_header(mask, name)
    if ids.mode not in ID_MODES or ids.kind in LOSSY:
        raise DatasetLayoutError(
            f'{name}: the mask {mask} is a {ids.kind} file of PIL mode '
            f'{ids.mode!r}, expected an 8-bit single-channel PNG of class '
            'ids. Coloured or 16-bit masks belong to the full ADE20K release '
            'or to a colour-coded export: convert them to class ids first.'
        )
    if picture.size != ids.stored:
        turned = ', turned by its EXIF orientation' if picture.turned else ''
        raise DatasetLayoutError(
            f'{name}: the image {image} is {picture.size[0]} x '
            f'{picture.size[1]} (width x height{turned}), its mask '
            f'{ids.stored[0]} x {ids.stored[1]}: labels would lie elsewhere. '
            'Use the images that the masks were drawn on, stored upright.'
        )
    square = picture.size[0] == picture.size[1]
    return picture.orientation != 1 and (square or not picture.turned)


def read_mask(
    path: str | PathLike,
    num_classes: int,
    name: str = 'the data',
    reduce_zero_label: bool = True,
) -> np.ndarray:
    """Read the ids of one mask and check their range.

    Args:
        path (str | PathLike): 8-bit PNG.
        num_classes (int): Classes of the data set.
        name (str): What messages call the data. Defaults to 'the data'.
        reduce_zero_label (bool): Whether 0 is no class and ids count from 1;
            else they count from 0 and 255 is no class. Defaults to True.

    Returns:
        np.ndarray: (256,) int, pixels of each id.

    Raises:
        DatasetLayoutError: If it cannot be read or an id is out of range.
    """
    try:
        with Image.open(path) as mask:
            values = np.asarray(mask)
    # Pillow's decoders raise many types on damaged files.
    except Exception as error:
        raise _damaged(path, name, error) from error
    counts = np.bincount(values.ravel(), minlength=256)
    used = counts.copy()
    if not reduce_zero_label:
        used[IGNORED] = 0
    highest = int(np.flatnonzero(used).max(initial=0))
    if highest <= num_classes - (not reduce_zero_label):
        return counts
    raise DatasetLayoutError(
        f'{name}: the mask {path} holds the value {highest}, expected '
        + _wanted(num_classes, reduce_zero_label, highest)
    )


def shift_note(
    counts: np.ndarray, num_classes: int, reduce_zero_label: bool = True
) -> str:
    """Say whether the ids of all masks look shifted by one.

    Args:
        counts (np.ndarray): (256,) int, pixels of each id in all masks.
        num_classes (int): Classes of the data set.
        reduce_zero_label (bool): See :func:`read_mask`. Defaults to True.

    Returns:
        str: A clause, '' where nothing speaks for it.
    """
    if not reduce_zero_label or not counts.any():
        return ''
    ids, share = np.flatnonzero(counts), counts[0] / counts.sum()
    if ids.min() == 2:
        return (
            'no mask holds 0 (no class) or 1 (the first), and some hold 2: '
            'ids may be one too high'
        )
    if share > MUCH and not counts[num_classes]:
        return (
            f'{share:.0%} of all pixels have id 0, which is no class, and '
            f'none has {num_classes}: ids may count from 0 and be one too low'
        )
    return ''


def turned_note(images: Sequence[str], number: int) -> str:
    """Say which images may lie another way round than their masks."""
    if not images:
        return ''
    return (
        f'{len(images)} of {number} images have an EXIF orientation '
        f'({some(images)}), by which loading turns them, and never their '
        'masks: store them upright'
    )


def _mask_header(path: str | PathLike, name: str) -> object:
    try:
        return read_header(path)
    except DatasetLayoutError as error:
        raise DatasetLayoutError(
            f'{name}: cannot read the mask {path}: {error}'
        ) from error


def _damaged(
    path: str | PathLike, name: str, error: Exception
) -> DatasetLayoutError:
    return DatasetLayoutError(
        f'{name}: cannot read the mask {path} ({error}). The file is '
        'damaged: unpack the archive again.'
    )


def _wanted(number: int, reduce_zero_label: bool, highest: int) -> str:
    if not reduce_zero_label:
        return (
            f'0..{number - 1} and 255 (no class), as '
            'reduce_zero_label=False says.'
        )
    hint = (
        'Ids with 255 are already shifted to 0-based with 255 = ignore: '
        'write them back as id + 1 and 255 -> 0'
        if highest == IGNORED
        else 'It belongs to a release with more classes'
    )
    return f'0 (other) and 1..{number}. {hint}.'
