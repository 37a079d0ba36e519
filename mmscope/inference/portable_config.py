"""What of a config a model needs to predict, as JSON that holds no code."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmscope.errors import UserError
from mmscope.registry import HOSTS
from mmscope.runtime import drop_pretrained, walk
from mmscope.runtime.exit_gate import all_gate_hooks

from .foreign_config import check_types

# Key of what was a tuple.
TUPLE = '__tuple__'
KEPT = ('default_scope', 'model', 'custom_hooks', 'test_dataloader')
META = 'dataset_meta'
# What an entry is, and what a list holds.
KINDS = {
    'custom_hooks': (list, dict),
    'test_dataloader': (dict, None),
    'test_dataloader.dataset': (dict, None),
    'test_dataloader.dataset.pipeline': (list, dict),
    META: (dict, None),
    f'{META}.classes': (list, str),
}


def portable(cfg: Config) -> dict:
    """Take what a model needs to predict out of a config.

    Args:
        cfg (Config): Complete config, also one in the style of Python.

    Returns:
        dict: Plain values. Classes became their names; training data,
        addresses of pretrained weights and folders are left out.
    """
    plain = _plain(cfg.to_dict() if hasattr(cfg, 'to_dict') else dict(cfg))
    kept = {key: plain[key] for key in KEPT if plain.get(key) is not None}
    kept['custom_hooks'] = all_gate_hooks(kept.get('custom_hooks'))
    loader = kept.get('test_dataloader')
    if loader:
        pipeline = loader['dataset'].get('pipeline', [])
        kept['test_dataloader'] = {'dataset': {'pipeline': pipeline}}
    found = Config(kept)
    drop_pretrained(found)
    return found.to_dict()


def to_json(kept: dict, **others: object) -> str:
    """Write a config as :func:`read_json` reads it.

    Args:
        kept (dict): Of :func:`portable`; its tuples come back as tuples.
        **others (object): Further entries, of what JSON knows.

    Returns:
        str: JSON.
    """
    return json.dumps({**_marked(kept), **others}, indent=1) + '\n'


def read_json(path: Path) -> tuple[Config, dict]:
    """Read a config that others may have written.

    Args:
        path (Path): File of :func:`to_json`.

    Returns:
        tuple[Config, dict]: What is kept of the config, and what the data
        set said.

    Raises:
        UserError: If the file cannot be read, an entry is of another kind
            than expected, or asks for code that is no part of a model.
    """
    try:
        text = path.read_text(encoding='utf-8')
        content = json.loads(text, object_hook=_unmarked)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f'model {path.parent} cannot be read: {path.name}: '
            f'{type(error).__name__}: {error}'
        ) from error
    check_content(content, path)
    kept = {key: content[key] for key in KEPT if key in content}
    return Config(kept), content.get(META) or {}


def check_content(content: object, source: object) -> None:
    """Refuse entries of another kind, and types that are no parts of models.

    Args:
        content (object): Config that others may have written.
        source (object): Where it comes from, for the message.

    Raises:
        UserError: Naming the source and the first such entry.
    """
    for key, value, expected in _wrong_entries(content):
        came = textwrap.shorten(repr(value), 80, placeholder=' ...')
        raise UserError(f'{source}: {key} is {came}, expected {expected}')
    check_types({key: content.get(key) for key in KEPT}, source)


def _wrong_entries(content: Any) -> Iterator[tuple[str, object, str]]:
    """Key, value and what is expected of entries of the wrong kind."""
    if not isinstance(content, dict):
        yield 'the content', content, 'a dict'
        return
    model = content.get('model')
    if not isinstance(model, dict) or 'type' not in model:
        yield 'model', model, 'a dict with "type", that it is built from'
    hosts = sorted(HOSTS)
    scope = content.get('default_scope')
    if scope is not None and scope not in hosts:
        yield 'default_scope', scope, f'one of {hosts}'
    for key, (kind, held) in KINDS.items():
        value = content
        for part in key.split('.'):
            value = value.get(part) if isinstance(value, dict) else None
        value = list(value) if isinstance(value, tuple) else value
        if value is not None and not isinstance(value, kind):
            yield key, value, f'a {kind.__name__}'
        for index, entry in enumerate(value if held and value else ()):
            if not isinstance(entry, held):
                yield f'{key}.{index}', entry, f'a {held.__name__}'
    for part in KEPT:
        for key, node in walk(content.get(part), part):
            if not isinstance(node.get('type', ''), str):
                yield f'{key}.type', node['type'], 'the name of a type'


def _plain(value: object) -> object:
    """Lists, tuples, dicts, numbers and texts alone."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        kind = tuple if isinstance(value, tuple) else list
        return kind(_plain(entry) for entry in value)
    if isinstance(value, type):
        return f'{value.__module__}.{value.__qualname__}'
    return value


def _marked(value: object) -> object:
    """Say what is a tuple, which JSON has not and hosts ask for."""
    if isinstance(value, dict):
        return {key: _marked(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        entries = [_marked(entry) for entry in value]
        return {TUPLE: entries} if isinstance(value, tuple) else entries
    return value


def _unmarked(found: dict) -> object:
    if TUPLE not in found:
        return found
    entries = found[TUPLE]
    if not isinstance(entries, list):
        raise ValueError(f'{TUPLE} is {entries!r}, expected a list')
    return tuple(entries)
