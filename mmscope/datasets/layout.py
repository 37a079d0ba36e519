"""Names what a segmentation folder holds before training trips over it.

ADE20K exists in several releases that look alike from outside. The configs
want SceneParse150 (``ADEChallengeData2016``): one JPEG and one 8-bit PNG of
class ids per image, 0 = other, 1..150 = classes. The full releases of 2016
and 2021 hold other files in other folders, and an archive is easily unpacked
one level too deep. Each case gets its own message, with the fix.
"""

from __future__ import annotations

import logging
import os
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmscope.errors import DatasetLayoutError

from .ade20k_releases import ADE20K_FIX, describe_other_release
from .files import (
    check_regular,
    nearest_parent,
    regular,
    some,
    spread,
    walk_files,
)
from .masks import IGNORED, MaskIds, PairNotes

# Endings of images and masks, of both releases.
SUFFIXES = ('.jpg', '.png')
CAMVID_FIX = (
    'Name the folder that holds images/{training,validation,test} and '
    'annotations/{training,validation,test} in the environment variable '
    'MMSCOPE_CAMVID, or with --cfg-options '
    'train_dataloader.dataset.data_root=FOLDER (and likewise for '
    'val_dataloader and test_dataloader)'
)


def check_pairs(
    image_dir: str | PathLike,
    mask_dir: str | PathLike | None,
    num_classes: int,
    name: str = 'the data set',
    fix: str = '',
    *,
    reduce_zero_label: bool = True,
    ignore_index: int = IGNORED,
    strict: bool = False,
    num_samples: int = 20,
    suffixes: tuple[str, str] = SUFFIXES,
) -> int:
    """Check that every image has an 8-bit mask with ids up to num_classes.

    Args:
        image_dir (str | PathLike): Folder of the images.
        mask_dir (str | PathLike | None): Folder of masks with the same
            stems. None checks the images alone.
        num_classes (int): Classes: the highest id that a mask may hold
            where ids count from 1.
        name (str): What messages call the data. Defaults to 'the data set'.
        fix (str): Sentence that tells how to get the data. Defaults to ''.
        reduce_zero_label (bool): Whether ids count from 1. Defaults to True.
        ignore_index (int): What is no class where they count from 0.
            Defaults to 255.
        strict (bool): Whether what looks wrong and need not be is an error,
            not a warning. Defaults to False.
        num_samples (int): Pairs to open, spread evenly. Defaults to 20.
        suffixes (tuple[str, str]): Endings of images and masks. Defaults to
            ('.jpg', '.png').

    Returns:
        int: Number of images.

    Raises:
        DatasetLayoutError: If a folder is missing or empty, stems differ, or
            a mask is not what the loader expects.
    """
    images = _stems(Path(image_dir), suffixes[0], 'images', name, fix)
    if mask_dir is None:
        return len(images)
    masks = _stems(Path(mask_dir), suffixes[1], 'annotations', name, fix)
    _check_same_stems(images, masks, Path(image_dir), Path(mask_dir), name)
    notes = PairNotes(
        MaskIds(num_classes, reduce_zero_label, ignore_index, name)
    )
    for stem in spread(sorted(masks), num_samples):
        notes.add(images[stem], masks[stem])
    if text := notes.text():
        if strict:
            raise DatasetLayoutError(text)
        print_log(text, 'current', logging.WARNING)
    return len(images)


def check_ade20k(
    root: str | PathLike,
    image_dir: str | PathLike = 'images/training',
    mask_dir: str | PathLike | None = 'annotations/training',
    **options: Any,
) -> int:
    """Check one split of SceneParse150 and name what else is there.

    Args:
        root (str | PathLike): Folder like ``data/ade/ADEChallengeData2016``.
        image_dir (str | PathLike): The split's images, below ``root``.
            Defaults to 'images/training'.
        mask_dir (str | PathLike | None): The split's masks, below ``root``;
            None where there are none. Defaults to 'annotations/training'.
        **options (Any): ``strict`` and others of
            :func:`check_pairs`.

    Returns:
        int: Number of images in the split.

    Raises:
        DatasetLayoutError: With what was found, which release it looks like
            and how to put it right.
    """
    root = Path(root)
    images = root / image_dir
    masks = None if mask_dir is None else root / mask_dir
    suffix, _ = options.get('suffixes', SUFFIXES)
    if not _has_files(images, suffix):
        found = describe_other_release(root)
        if found:
            raise DatasetLayoutError(f'ADE20K: {found}')
    elif masks is not None and not masks.is_dir():
        raise DatasetLayoutError(
            f'ADE20K: {images.absolute()} holds images but '
            f'{masks.absolute()} does not exist. Images without annotations '
            'look like the release_test download; training and validation '
            f'need ADEChallengeData2016.zip. {ADE20K_FIX}.'
        )
    return check_pairs(images, masks, 150, 'ADE20K', ADE20K_FIX, **options)


def check_camvid(
    root: str | PathLike,
    image_dir: str | PathLike = 'images/training',
    mask_dir: str | PathLike | None = 'annotations/training',
    **options: Any,
) -> int:
    """Check one split of the 11-class CamVid in ADE20K's layout.

    Args:
        root (str | PathLike): Folder that holds ``images``.
        image_dir (str | PathLike): The split's images, below ``root``.
            Defaults to 'images/training'.
        mask_dir (str | PathLike | None): The split's masks, below ``root``.
            Defaults to 'annotations/training'.
        **options (Any): ``strict`` and others of
            :func:`check_pairs`.

    Returns:
        int: Number of images in the split.

    Raises:
        DatasetLayoutError: With what is missing and how to name the folder.
    """
    root = Path(root)
    if (root / 'train').is_dir() and (root / 'trainannot').is_dir():
        raise DatasetLayoutError(
            f'CamVid: {root.absolute()} holds train/ and trainannot/, the '
            'SegNet layout with ids 0..10 and 11 = unlabelled. Expected '
            'images/ and annotations/ with ids 1..11 and 0 = unlabelled: '
            'move the files and add 1 to every id (11 becomes 0).'
        )
    masks = None if mask_dir is None else root / mask_dir
    return check_pairs(
        root / image_dir, masks, 11, 'CamVid', CAMVID_FIX, **options
    )


def _stems(
    folder: Path, suffix: str, kind: str, name: str, fix: str
) -> dict[str, str]:
    """Map stem to file for one folder, or say what is wrong with it."""
    if not folder.is_dir():
        raise DatasetLayoutError(
            f'{name}: {folder.absolute()} does not exist'
            f'{nearest_parent(folder)}. {fix}.'
        )
    entries = list(walk_files(folder, [suffix]))
    check_regular([e.path for e in entries if not regular(e)], folder)
    files = {
        os.path.relpath(entry.path, folder).removesuffix(suffix): entry.path
        for entry in entries
        if entry.name.endswith(suffix)
    }
    if not files:
        present = sorted({p.suffix for p in islice(folder.rglob('*.*'), 99)})
        raise DatasetLayoutError(
            f'{name}: {folder.absolute()} ({kind}) holds no {suffix} file, '
            f'found {", ".join(present) if present else "nothing"}. {fix}.'
        )
    # The host's listing knows lower case alone.
    passed_over = sorted(
        e.name for e in entries if not e.name.endswith(suffix)
    )
    if passed_over:
        raise DatasetLayoutError(
            f'{name}: {len(passed_over)} of {len(entries)} files in '
            f'{folder.absolute()} do not end in {suffix}, lower case '
            f'({some(passed_over)}), and would be passed over. Rename them.'
        )
    return files


def _check_same_stems(
    images: dict, masks: dict, image_dir: Path, mask_dir: Path, name: str
) -> None:
    no_mask = sorted(images.keys() - masks.keys())
    no_image = sorted(masks.keys() - images.keys())
    if no_mask or no_image:
        raise DatasetLayoutError(
            f'{name}: {len(images)} images in {image_dir.absolute()} and '
            f'{len(masks)} annotations in {mask_dir.absolute()} do not '
            f'match: {len(no_mask)} images have no annotation, '
            f'{len(no_image)} annotations have no image (such as '
            f'{some(no_mask or no_image)}). '
            'Unpack the archive again, or remove the files without a partner.'
        )


def _has_files(folder: Path, suffix: str) -> bool:
    """Whether ``folder`` itself, not its subfolders, holds such files."""
    return folder.is_dir() and any(True for _ in folder.glob(f'*{suffix}'))
