"""Reads a COCO annotation file, or says what lies there instead.

Expected is one JSON object with the lists ``images``, ``annotations`` and
``categories``, as in ``instances_val2017.json``. COCO ships captions, panoptic
segments and plain image lists in files of nearly the same name, and a file of
results looks alike, too.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import msgspec

from mmscope.errors import DatasetLayoutError

from .coco_schema import check_records
from .files import nearest_parent, no_file, no_utf8

COCO_FIX = (
    'Name the folder that holds the images and annotations/ in the '
    'environment variable MMSCOPE_COCO (configs/coco) or MMSCOPE_BCCD '
    '(configs/bccd), or set --cfg-options '
    'train_dataloader.dataset.data_root=FOLDER and likewise '
    'val_dataloader, test_dataloader, and val_evaluator.ann_file=FILE, '
    'test_evaluator'
)
CUT = re.compile(r'\s*[\w.+-]*\s*')
SECTIONS = ('images', 'annotations', 'categories')
IMAGE_KEYS = ('id', 'file_name', 'height', 'width')
ANNOTATION_KEYS = ('id', 'image_id', 'category_id', 'bbox', 'area')
KEY_FIXES = {
    'area': 'the number of pixels; width * height where there are no masks',
    'iscrowd': '0 for a single object, 1 for a region of many',
    'height': 'pixels of the image file',
    'width': 'pixels of the image file',
}


def read_coco(
    path: str | PathLike,
    name: str | PathLike | None = None,
    test_mode: bool = False,
) -> dict:
    """Read an annotation file and check its parts.

    Args:
        path (str | PathLike): The JSON file.
        name (str | PathLike | None): What messages call it, for a copy of a
            remote one; None means ``path``. Defaults to None.
        test_mode (bool): Whether it is for evaluation, which needs
            ``iscrowd`` and, for a test server, no annotations. Defaults to
            False.

    Returns:
        dict: With ``images``, ``annotations`` and ``categories``.

    Raises:
        DatasetLayoutError: If the file is absent, no JSON, another kind of
            file, lacks a key, or names something twice.
    """
    path = Path(path)
    name = str(path.absolute() if name is None else name)
    if problem := no_file(path):
        raise DatasetLayoutError(
            f'annotation file {name} {problem}{nearest_parent(path)}. '
            f'{COCO_FIX}.'
        )
    content = _parse(path, name)
    _check_sections(content, name, test_mode)
    content.setdefault('annotations', [])
    crowd = ('iscrowd',) if test_mode else ()
    for section, keys in (
        ('images', IMAGE_KEYS),
        ('categories', ('id', 'name')),
        ('annotations', (*ANNOTATION_KEYS, *crowd)),
    ):
        _check_keys(content[section], keys, section, name)
        check_records(content[section], section, name)
        _check_unique(content[section], section, name)
    return content


def _parse(path: Path, name: str) -> object:
    data = path.read_bytes()
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _parse_slowly(data, name)
    except RecursionError:
        raise _too_deep(name) from None


def _parse_slowly(data: bytes, name: str) -> object:
    """Read what is more than JSON (NaN), or say where it is not even that."""
    problem = no_utf8(data)
    if data.startswith(codecs.BOM_UTF8):
        problem = 'begins with a byte order mark'
    if problem:
        raise DatasetLayoutError(
            f'annotation file {name} {problem}: expected JSON in UTF-8. '
            'Unpack it if it is an archive, save it as UTF-8, or download '
            'it again.'
        )
    try:
        return json.loads(data.decode())
    except RecursionError:
        raise _too_deep(name) from None
    except json.JSONDecodeError as error:
        text = error.doc
        shown = text[max(0, error.pos - 30) : error.pos + 30]
        # In the middle of a text, a number or a word, or between them.
        ended = error.msg.startswith('Unterminated') or CUT.fullmatch(
            text, error.pos
        )
        raise DatasetLayoutError(
            f'annotation file {name} is no valid JSON: {error.msg} at line '
            f'{error.lineno}, column {error.colno} (character {error.pos:,} '
            f'of {len(text):,}), '
            + (
                'where the file ends, as after an interrupted download'
                if ended
                else f'near {shown!r}'
            )
            + '. Download it or write it again.'
        ) from error


def _too_deep(name: str) -> DatasetLayoutError:
    return DatasetLayoutError(
        f'annotation file {name} nests lists or objects hundreds deep, '
        'expected COCO, which nests five deep. Write it again.'
    )


def _check_sections(content: object, name: str, test_mode: bool) -> None:
    kind = _other_kind(content)
    needed = [s for s in SECTIONS if s != 'annotations' or not test_mode]
    if not kind:
        absent = [s for s in needed if s not in content]
        wrong = [
            f'{s} is of type {type(content[s]).__name__}'
            for s in SECTIONS
            if s in content and not _is_list_of_dicts(content[s])
        ]
        if absent:
            found = ', '.join(map(repr, list(content)[:8])) or 'nothing'
            kind = f'it lacks {" and ".join(absent)}, it has {found}'
        elif wrong:
            kind = f'{wrong[0]} or holds others than objects'
    if kind:
        raise DatasetLayoutError(
            f'annotation file {name} is no COCO file of objects: {kind}. '
            'Expected an object with the lists images, annotations and '
            'categories, such as instances_train2017.json. Set ann_file of '
            'the data set, and of the evaluator, to that one.'
        )


def _is_list_of_dicts(section: object) -> bool:
    return isinstance(section, list) and all(
        isinstance(record, dict) for record in section
    )


def _other_kind(content: object) -> str:
    """Name a known file of another kind; '' if it may be the right one."""
    if isinstance(content, list):
        first = content[0] if content else None
        if isinstance(first, dict) and 'score' in first:
            return 'it is a list of results (image_id, category_id, score)'
        return f'it is a list of {len(content)} entries'
    if not isinstance(content, dict):
        return f'it holds a {type(content).__name__} alone'
    annotations = content.get('annotations')
    if annotations is None and 'images' in content:
        # A test server's list; that is enough where nothing is scored.
        return '' if 'categories' in content else 'it lists images alone'
    first = annotations[0] if _is_filled(annotations) else {}
    if 'caption' in first:
        return 'it holds captions (captions_*.json)'
    if 'segments_info' in first:
        return 'it holds panoptic segments (panoptic_*.json)'
    return ''


def _is_filled(annotations: object) -> bool:
    return bool(annotations) and _is_list_of_dicts(annotations)


def _check_keys(
    records: Sequence[dict], keys: Sequence[str], section: str, name: str
) -> None:
    for key in keys:
        lacking = sum(key not in record for record in records)
        if not lacking:
            continue
        first = next(r for r in records if key not in r)
        known = ', '.join(map(repr, first))
        fix = f': {KEY_FIXES[key]}' if key in KEY_FIXES else ''
        raise DatasetLayoutError(
            f'annotation file {name}: {lacking:,} of {len(records):,} '
            f'{section} lack {key!r} (id {first.get("id")!r} has {known}). '
            f'Add it{fix}.'
        )


def _check_unique(records: Sequence[dict], section: str, name: str) -> None:
    for key in ('id', 'name') if section == 'categories' else ('id',):
        values = [record[key] for record in records]
        text = sum(isinstance(value, str) for value in values)
        if 0 < text < len(values):
            raise DatasetLayoutError(
                f'annotation file {name}: {text:,} of {len(values):,} {key}s '
                f'of {section} are text, the others numbers, and evaluators '
                'sort them. Make them all of one kind.'
            )
        if len(set(values)) == len(values):
            continue
        twice = [v for v, count in Counter(values).items() if count > 1]
        raise DatasetLayoutError(
            f'annotation file {name}: {len(twice):,} {key}s of {section} '
            f'come more than once (such as {twice[0]!r}), so that all but '
            'one would be lost. Give each its own, as merged files need.'
        )
