"""JSON files of measurements: written whole, checked when they are read."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mmscope.errors import UserError
from mmscope.whole_files import write_whole

T = TypeVar('T')
# Facts by name, see :func:`mmscope.benchmark.setting.describe_setting`.
Setting = dict[str, Any]


def plain(value: Any) -> Any:
    """Turn dataclasses into what JSON holds; NaN and infinity into names."""
    if is_dataclass(value):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def write_json(path: str | Path, content: Any) -> None:
    """Write a file that others see either as it was or complete.

    Args:
        path (str | Path): JSON file; its folder is made.
        content (Any): Of dataclasses, dicts, lists, numbers and text.
    """
    text = json.dumps(plain(content), indent=1, allow_nan=False)
    write_whole(path, f'{text}\n')


def read_json(
    path: str | Path, kind: type[T], writer: str, /, **given: Any
) -> T:
    """Read what :func:`write_json` wrote.

    Args:
        path (str | Path): JSON file.
        kind (type): What it holds, such as a dataclass.
        writer (str): Tool and options that write it, for the message.
        **given (Any): Fields of ``kind`` that the file does not hold.

    Returns:
        T: The content, checked.

    Raises:
        UserError: If it holds something else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
        if is_dataclass(kind) and isinstance(content, dict):
            known = {field.name for field in fields(kind)}
            if odd := set(content) - known:
                raise ValueError(f'unknown: {", ".join(sorted(odd))}')
        if given:
            content = {**content, **given}
        return msgspec.convert(content, kind)
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise UserError(
            f'{path} is not the JSON of tools/{writer} '
            f'({type(error).__name__}: {error}): name another file, or '
            'remove this one'
        ) from error
