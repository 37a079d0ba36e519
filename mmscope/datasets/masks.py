"""Masks of class ids that belong to their images."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike

import numpy as np
from PIL import Image

from mmscope.errors import DatasetLayoutError

from .decoding import Header, read_header
from .files import some

# Pillow's modes that the host reads as class ids.
ID_MODES = ('L', 'P')
IGNORED = 255
# They change ids at every edge.
LOSSY = ('JPEG', 'MPO', 'WEBP')
# More than this of all pixels without a class is a sign of a shift.
MUCH = 0.2


@dataclass(frozen=True)
class MaskIds:
    """Which ids the masks of a data set hold.

    Args:
        num_classes (int): Classes.
        reduce_zero_label (bool): Whether 0 is no class and ids count from 1,
            else from 0. Defaults to True.
        ignore_index (int): The id that is no class where ids count from 0.
            Defaults to 255.
        name (str): What messages call the data. Defaults to 'the data'.
    """

    num_classes: int
    reduce_zero_label: bool = True
    ignore_index: int = IGNORED
    name: str = 'the data'

    @property
    def nothing(self) -> int:
        """The id that is no class."""
        return 0 if self.reduce_zero_label else self.ignore_index

    def wrong(self, counts: np.ndarray) -> int | None:
        """Return the highest id of (256,) counts that may not be there."""
        used = counts.copy()
        if 0 <= self.nothing < len(used):
            used[self.nothing] = 0
        highest = int(np.flatnonzero(used).max(initial=0))
        last = self.num_classes - (not self.reduce_zero_label)
        return highest if highest > last else None

    def expected(self, highest: int) -> str:
        """Say which ids are expected, for a mask that holds ``highest``."""
        if not self.reduce_zero_label:
            return (
                f'0..{self.num_classes - 1} and {self.ignore_index} (no '
                'class), as reduce_zero_label=False says.'
            )
        hint = (
            'Ids with 255 are already shifted to 0-based with 255 = ignore: '
            'write them back as id + 1 and 255 -> 0'
            if highest == IGNORED
            else 'It belongs to a release with more classes'
        )
        return f'0 (other) and 1..{self.num_classes}. {hint}.'


@dataclass
class PairNotes:
    """What looks wrong in images and masks and need not be, counted.

    Args:
        ids (MaskIds): What the masks may hold.
    """

    ids: MaskIds
    number: int = 0
    turned: list[str] = field(default_factory=list)
    counts: np.ndarray = field(default_factory=lambda: np.zeros(256, int))

    def add(self, image: str, mask: str) -> None:
        """Read one pair.

        Args:
            image (str): The image file, of which the header is read.
            mask (str): Its mask, which is decoded.

        Raises:
            DatasetLayoutError: If they do not fit, or an id is out of range.
        """
        if check_pair(image, mask, self.ids.name):
            self.turned.append(image)
        self.counts += read_mask(mask, self.ids)
        self.number += 1

    def text(self) -> str:
        """Return what was noticed in all pairs; '' for nothing."""
        notes = (
            turned_note(self.turned, self.number),
            _shift_note(self.counts, self.ids),
            _binary_note(self.counts, self.ids),
        )
        text = '; '.join(filter(None, notes))
        return text and (
            f'{self.ids.name}: of {self.number} pairs that were opened, '
            f'{text}.'
        )


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
        bool: Whether nobody can tell which way round the mask lies.

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
    return picture.turns_unseen


def read_mask(path: str | PathLike, ids: MaskIds) -> np.ndarray:
    """Read the ids of one mask and check their range.

    Args:
        path (str | PathLike): 8-bit PNG.
        ids (MaskIds): What it may hold.

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
        raise _damaged(path, ids.name, error) from error
    counts = np.bincount(values.ravel(), minlength=256)
    highest = ids.wrong(counts)
    if highest is None:
        return counts
    raise DatasetLayoutError(
        f'{ids.name}: the mask {path} holds the value {highest}, expected '
        + ids.expected(highest)
    )


def turned_note(images: list[str], number: int, labels: str = 'masks') -> str:
    """Say which images may lie another way round than their labels.

    Args:
        images (list[str]): Files that loading turns.
        number (int): How many were looked at.
        labels (str): What is never turned. Defaults to 'masks'.

    Returns:
        str: A clause, '' for no image.
    """
    if not images:
        return ''
    return (
        f'{len(images)} of {number} images have an EXIF orientation '
        f'({some(images)}), by which loading turns them, and never their '
        f'{labels}: store them upright'
    )


def _shift_note(counts: np.ndarray, ids: MaskIds) -> str:
    """Say whether the ids of all masks look shifted by one."""
    if not ids.reduce_zero_label or not counts.any():
        return ''
    present, share = np.flatnonzero(counts), counts[0] / counts.sum()
    if present.min() == 2:
        return (
            'no mask holds 0 (no class) or 1 (the first), and some hold 2: '
            'ids may be one too high'
        )
    if share > MUCH and not counts[ids.num_classes]:
        return (
            f'{share:.0%} of all pixels have id 0, which is no class, and '
            f'none has {ids.num_classes}: ids may count from 0 and be one '
            'too low'
        )
    return ''


def _binary_note(counts: np.ndarray, ids: MaskIds) -> str:
    """Say whether all masks are black and white, white being no class."""
    if np.flatnonzero(counts).tolist() != [0, IGNORED]:
        return ''
    return (
        f'all masks hold 0 and {IGNORED} alone, and {IGNORED} is no class: '
        'masks of two classes hold 0 and 1'
    )


def _mask_header(path: str | PathLike, name: str) -> Header:
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
