"""What a record of a COCO file must be, checked by msgspec."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from mmscope.errors import DatasetLayoutError

Id = int | float | str
Number = float | None
Pixels = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Run = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Flag = bool | Annotated[int, Meta(ge=0, le=1)]
FOUND = re.compile(r'(.*?)(?: - at `\$(.*)`)?')
STEP = re.compile(r'\.(\w+)|\[(\d+)\]')


class Image(msgspec.Struct):
    """An entry of ``images``."""

    id: Id
    file_name: str
    height: Pixels
    width: Pixels


class Category(msgspec.Struct):
    """An entry of ``categories``."""

    id: Id
    name: str


class RunLengths(msgspec.Struct):
    """A mask as lengths of runs, plain or packed."""

    size: Annotated[list[Pixels], Meta(min_length=2, max_length=2)]
    counts: list[Run] | str


class Annotation(msgspec.Struct):
    """An entry of ``annotations``; null counts as NaN in box and area."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: Annotated[list[Number], Meta(min_length=4, max_length=4)]
    area: Number
    iscrowd: Flag = 0
    ignore: Flag | None = None
    segmentation: list[list[float]] | RunLengths | None = None


SECTIONS = {'images': Image, 'categories': Category, 'annotations': Annotation}


def check_records(records: Sequence[dict], section: str, name: str) -> None:
    """Check the type of every value that this package or a host reads.

    Args:
        records (Sequence[dict]): With all keys that are asked for.
        section (str): 'images', 'categories' or 'annotations'.
        name (str): What messages call the file.

    Raises:
        DatasetLayoutError: With how many are wrong, the first one's id, what
            it has and what was expected.
    """
    kind = SECTIONS[section]
    wrong = []
    for record in records:
        try:
            msgspec.convert(record, kind)
        except msgspec.ValidationError as error:
            wrong.append((record, str(error)))
    if not wrong:
        return
    record, text = wrong[0]
    raise DatasetLayoutError(
        f'annotation file {name}: {len(wrong):,} of {len(records):,} '
        f'{section} are not as COCO has them, first id '
        f'{_short(record["id"])}: {_describe(record, text)}. Correct or '
        'remove them.'
    )


def _describe(record: dict, text: str) -> str:
    """Turn msgspec's words into: key, what it is, what was expected."""
    problem, path = FOUND.fullmatch(text).groups()
    value = record
    for key, index in STEP.findall(path or ''):
        value = value[key] if key else value[int(index)]
    wanted = problem.partition(', got')[0].replace('`', '')
    wanted = f'{wanted[:1].lower()}{wanted[1:]}'
    return f'{(path or "it").lstrip(".")} is {_short(value)}, {wanted}'


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
