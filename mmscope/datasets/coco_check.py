"""Checks a COCO file against the config: classes and images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from os import PathLike
from pathlib import Path

from mmscope.errors import DatasetLayoutError

from .decoding import read_header
from .files import nearest_parent, no_file, spread
from .masks import turned_note

SHOWN = 5


def check_categories(
    content: dict, classes: Sequence[str], name: str | PathLike
) -> None:
    """Check that the file has the classes of the config, in their order.

    mmdet's labels count the file's categories that the config names, in the
    order of the file: a class that the file lacks, or another order, would
    give the others a wrong name without a word.

    Args:
        content (dict): As :func:`read_coco` gives it.
        classes (Sequence[str]): ``metainfo['classes']`` of the data set.
        name (str | PathLike): What messages call the file.

    Raises:
        DatasetLayoutError: Naming what is missing, or the right order.
    """
    if isinstance(classes, str):
        raise DatasetLayoutError(
            f'metainfo.classes is the text {classes!r}, expected a tuple of '
            f'names or a text file with one on each line: one class alone is '
            f'({classes!r},), with a comma'
        )
    twice = [c for c, count in Counter(classes).items() if count > 1]
    if twice:
        raise DatasetLayoutError(
            f'metainfo.classes names {_some(twice)} more than once: name '
            'every class once'
        )
    present = tuple(category['name'] for category in content['categories'])
    missing = [c for c in classes if c not in present]
    if missing:
        raise DatasetLayoutError(
            _missing_text(missing, classes, present, name)
            + _keypoints_hint(content)
        )
    used = set(classes)
    order = tuple(c for c in present if c in used)
    if order != tuple(classes):
        first = next(i for i, c in enumerate(order) if c != classes[i])
        raise DatasetLayoutError(
            f'annotation file {name} has the classes of the config in '
            f'another order: label {first} is {order[first]!r} there and '
            f'{classes[first]!r} in metainfo.classes, and mmdet counts in '
            f'the order of the file. Set metainfo.classes={order!r}.'
        )


def check_images(
    content: dict,
    folder: str | PathLike,
    name: str | PathLike,
    num_samples: int,
) -> str:
    """Check that images are where they should be and as large as listed.

    Args:
        content (dict): As :func:`read_coco` gives it.
        folder (str | PathLike): What file names are relative to.
        name (str | PathLike): What messages call the annotation file.
        num_samples (int): Images to look at, spread evenly.

    Returns:
        str: Which of them may lie another way round than their boxes; ''
        for none.

    Raises:
        DatasetLayoutError: If the folder or a sampled image is missing, or
            a size differs from the file's.
    """
    folder, images = Path(folder), content['images']
    if not folder.is_dir():
        raise DatasetLayoutError(
            f'image folder {folder.absolute()} does not exist'
            f'{nearest_parent(folder)}. It is data_root and data_prefix.img '
            f'together; {name} has file names such as '
            f'{images[0]["file_name"] if images else None!r}.'
        )
    samples = spread(images, num_samples)
    lost = [n for i in samples if no_file(folder / (n := i['file_name']))]
    if lost:
        raise DatasetLayoutError(
            f'{len(lost)} of {len(samples)} images that were looked for are '
            f'not in {folder.absolute()}: {lost[0]!r} '
            f'{no_file(folder / lost[0])}. Set data_prefix.img '
            f'to the folder that the file names of {name} are relative to, '
            'or unpack the images again.'
        )
    paths = [(str(folder / i['file_name']), i) for i in samples]
    turned = [path for path, i in paths if check_size(path, i, name)]
    return turned_note(turned, len(samples), 'boxes')


def check_size(
    path: str | PathLike, listed: dict, name: str | PathLike = 'the file'
) -> bool:
    """Check that one image is as large as the annotations say.

    Loading turns an image by its EXIF orientation and never its boxes.

    Args:
        path (str | PathLike): The image.
        listed (dict): With ``width`` and ``height``.
        name (str | PathLike): What messages call the annotation file.
            Defaults to 'the file'.

    Returns:
        bool: Whether nobody can tell which way round the boxes lie.

    Raises:
        DatasetLayoutError: If it is not, or is no complete image.
    """
    header = read_header(path)
    size = header.size
    wanted = (listed['width'], listed['height'])
    if size != wanted:
        turned = size == wanted[::-1] and header.turned
        raise DatasetLayoutError(
            f'image {path} is {size[0]} x {size[1]} (width x height)'
            f'{" after its EXIF rotation" if turned else ""}, {name} says '
            f'{wanted[0]} x {wanted[1]}: boxes would not fit. Use the images '
            'that the annotations were made for, or correct the sizes.'
        )
    return header.turns_unseen


def _missing_text(
    missing: Sequence[str],
    classes: Sequence[str],
    present: Sequence[str],
    name: str | PathLike,
) -> str:
    similar = [(c, _similar(c, present)) for c in missing]
    hints = [f'{s!r} for {c!r}' for c, s in similar if s][:SHOWN]
    suggestion = f' Similar in the file: {", ".join(hints)}.' if hints else ''
    shown = repr(present) if len(present) <= 20 else '(...)'
    return (
        f'annotation file {name} lacks {len(missing)} of the {len(classes)} '
        f'classes of the config ({_some(missing)}); it has {len(present)}: '
        f'{_some(present)}.{suggestion} For these data set '
        f'metainfo=dict(classes={shown}) in every data set, and num_classes='
        f'{len(present)} in every bbox_head, mask_head and exit_head of the '
        'model; for the classes of the config choose another ann_file.'
    )


def _similar(wanted: str, present: Sequence[str]) -> str | None:
    """A name that differs in case, blanks or a few letters."""
    plain = {name.strip().casefold(): name for name in present}
    close = get_close_matches(wanted.strip().casefold(), plain, 1, 0.75)
    return plain[close[0]] if close else None


def _keypoints_hint(content: dict) -> str:
    annotations = content['annotations']
    if annotations and 'keypoints' in annotations[0]:
        return (
            ' Its annotations have keypoints: person_keypoints_*.json holds '
            'people alone, instances_*.json holds all classes.'
        )
    return ''


def _some(names: Sequence[object]) -> str:
    more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
    return ', '.join(map(str, names[:SHOWN])) + more
