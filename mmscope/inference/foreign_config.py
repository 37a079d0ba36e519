"""Configs that others wrote, read without running what they say."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from inspect import isclass
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.registry import MODELS, TASK_UTILS, Registry
from mmengine.utils import get_object_from_string
from torch import nn

from mmscope.errors import UserError
from mmscope.registry import HOSTS
from mmscope.runtime import walk

PACKAGES = ('mmscope', 'mmengine', 'mmcv', 'torch', *HOSTS)


def check_types(config: object, source: object) -> None:
    """Refuse types that are no parts of models or pipelines.

    MMEngine's registries import and call whatever a dotted name means, be it
    ``os.system``. Names of registered types pass, and paths of classes that
    are modules, transforms or registered, of our packages.

    Args:
        config (object): Config, or a part of it.
        source (object): Where it comes from, for the message.

    Raises:
        UserError: If a type is anything else.
    """
    for key, node in walk(config, 'config'):
        kind = node.get('type')
        if isinstance(kind, str) and not _is_part(kind):
            raise UserError(
                f'{source} asks for the type {kind!r} ({key}.type), expected '
                'a registered type, or a module or transform of '
                f'{", ".join(PACKAGES)}: other code is not run for a model. '
                'If you trust it, build it from its config'
            )


def read_literals(text: str) -> dict[str, Any]:
    """Read a config as MMEngine notes it in checkpoints, running nothing.

    Args:
        text (str): Assignments of constants, lists, tuples and dicts.

    Returns:
        dict: Values by name.

    Raises:
        ValueError: If there is anything else.
    """
    try:
        return dict(_assignments(ast.parse(text)))
    except (SyntaxError, TypeError) as error:
        raise ValueError(str(error)) from error


def _assignments(module: ast.Module) -> Iterator[tuple[str, Any]]:
    for step in module.body:
        if not isinstance(step, ast.Assign):
            raise ValueError(f'line {step.lineno} is no assignment')
        (target,) = step.targets
        if not isinstance(target, ast.Name):
            raise ValueError(f'line {step.lineno} assigns to no plain name')
        yield target.id, _value(step.value)


def _value(node: Any) -> Any:
    if isinstance(node, ast.List):
        return [_value(child) for child in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(child) for child in node.elts)
    if isinstance(node, ast.Dict):
        keys, values = map(_value, node.keys), map(_value, node.values)
        return dict(zip(keys, values, strict=True))
    if isinstance(node, ast.Call):
        return _of_call(node)
    return ast.literal_eval(node)


def _of_call(node: ast.Call) -> dict[Any, Any]:
    """What dict(a=1), or dict({3: 1}) for keys that are no names, means."""
    if not isinstance(node.func, ast.Name) or node.func.id != 'dict':
        raise ValueError(f'line {node.lineno} calls something')
    found: dict[Any, Any] = {
        entry.arg: _value(entry.value) for entry in node.keywords
    }
    for given in node.args:
        found.update(_value(given))
    return found


def _is_part(kind: str) -> bool:
    if '.' not in kind:
        return True
    if kind.partition('.')[0] not in PACKAGES:
        return False
    found = get_object_from_string(kind)
    # Nothing of that path: a scope and a name, for a registry to know.
    return found is None or (isclass(found) and _is_known(found))


def _is_known(found: type) -> bool:
    return issubclass(found, (nn.Module, BaseTransform)) or any(
        found in registry.module_dict.values()
        for root in (MODELS, TASK_UTILS)
        for registry in _family(root)
    )


def _family(registry: Registry) -> Iterator[Registry]:
    yield registry
    for child in registry.children.values():
        yield from _family(child)
