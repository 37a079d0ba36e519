"""The same weights with other settings, in one pass over the data."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from mmscope.models.layers import holding, unwrap_model

MISSING = object()


@dataclass(frozen=True)
class Variant:
    """Settings of a backbone that hold for one forward.

    Args:
        settings (dict[str, Any]): Attribute of the backbone, dots lead
            further in (``reduction.keep_ratio``), to its value. Defaults to
            none, the model as it is.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Settings as text, '' for the model as it is."""
        return ', '.join(f'{k}={v}' for k, v in self.settings.items())

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Give a model these settings for a while.

        Raises:
            ValueError: If the backbone has no such setting, or refuses the
                value.
        """
        backbone = unwrap_model(model).backbone
        found = {key: _find(backbone, key) for key in self.settings}
        with ExitStack() as changes:
            for owner, _ in found.values():
                changes.enter_context(holding(owner))
            _set(
                (owner, name, self.settings[key])
                for key, (owner, name) in found.items()
            )
            yield


def combinations(varied: Sequence[str]) -> list[Variant]:
    """Combine each value of 'score_metric=detail,random' with each other.

    Raises ValueError if an entry is not KEY=VALUE,VALUE or a key comes twice.
    """
    keys, values = [], []
    for entry in varied:
        key, equals, given = entry.partition('=')
        if not (key and equals and all(given.split(','))):
            raise ValueError(
                'what varies is written KEY=VALUE,VALUE, such as '
                f'score_metric=detail,max_norm, got {entry!r}'
            )
        if key in keys:
            raise ValueError(f'{key} varies twice: give all its values once')
        keys.append(key)
        values.append([_value(text) for text in given.split(',')])
    return [
        Variant(dict(zip(keys, chosen, strict=True)))
        for chosen in (itertools.product(*values) if keys else ())
    ]


def check_variants(model: nn.Module, variants: Iterable[Variant]) -> None:
    """Try settings on, before any data is read.

    Raises:
        ValueError: See :meth:`Variant.applied`.
    """
    for variant in variants:
        with variant.applied(model):
            pass


def _set(changes: Iterable[tuple[Any, str, Any]]) -> None:
    """Set attributes, whichever of them have to come first.

    A score that knows no lost energy is refused until a ratio replaces the
    coverage, whatever order they were named in.
    """
    waiting = list(changes)
    while waiting:
        refused, errors = [], []
        for owner, name, value in waiting:
            try:
                setattr(owner, name, value)
            except ValueError as error:
                refused.append((owner, name, value))
                errors.append(error)
        if len(refused) == len(waiting):
            raise errors[0]
        waiting = refused


def _find(backbone: nn.Module, key: str) -> tuple[Any, str]:
    owner, name = backbone, key
    while '.' in name:
        part, _, name = name.partition('.')
        owner = getattr(owner, part, None)
    known = getattr(owner, name, MISSING)
    if known is MISSING or callable(known):
        raise ValueError(
            f'{type(backbone).__name__} has no setting {key!r} to vary, such '
            'as score_metric or refine_ratio of a scope'
        )
    return owner, name


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
