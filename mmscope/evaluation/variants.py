"""The same weights with other settings, in one pass over the data."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from mmscope.models import CoarseToFine
from mmscope.models.layers import holding, unwrap_model
from mmscope.models.scoping.importance import mixer_metric

SCORING = ('score_layers', 'score_momentum')
# What selection decides by: all the same while every region is refined.
SELECTING = (
    'refine_ratio',
    'refine_coverage',
    'score_metric',
    *SCORING,
    'token_order',
    'unselected_tokens',
)


@dataclass(frozen=True)
class Variant:
    """Settings of a backbone that hold for one forward.

    Args:
        settings (dict[str, Any]): Setting of the backbone, dots lead
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
            try:
                _set(
                    (owner, name, self.settings[key])
                    for key, (owner, name) in found.items()
                )
            except ValueError as error:
                raise ValueError(
                    f'{self.name} does not go: {error}. What goes with other '
                    'settings alone is varied in a sweep of its own'
                ) from error
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
        values.append(_values(given))
    return [
        Variant(dict(zip(keys, chosen, strict=True)))
        for chosen in (itertools.product(*values) if keys else ())
    ]


def check_variants(model: nn.Module, variants: Iterable[Variant]) -> None:
    """Try settings on, before any data is read.

    Raises:
        ValueError: See :meth:`Variant.applied`; or if a setting would decide
            nothing, because another one does or selection is off.
    """
    idle = []
    for variant in variants:
        with variant.applied(model):
            backbone = unwrap_model(model).backbone
            _check_effect(backbone, variant.settings)
            idle.append(_idle(backbone, variant.settings))
    if everywhere := set.intersection(*idle) if idle else set():
        raise ValueError(
            f'{", ".join(sorted(everywhere))} would decide nothing in any of '
            'these variants: no block is scored where the image alone tells '
            'what matters, and nothing is selected where all regions or none '
            'are refined'
        )


def _idle(backbone: nn.Module, settings: Mapping[str, Any]) -> set[str]:
    """Settings that another one leaves nothing to decide."""
    idle: set[str] = set()
    if not isinstance(backbone, CoarseToFine):
        return idle
    if mixer_metric(backbone.score_metric) is None:
        idle.update(SCORING)
    if backbone.refine_ratio in (0, 1):
        idle.update(SCORING, ('score_metric',))
    if backbone.refine_ratio == 1:
        idle.update(('token_order', 'unselected_tokens'))
    return idle & settings.keys()


def _check_effect(backbone: nn.Module, settings: Mapping[str, Any]) -> None:
    amounts = {
        key: settings[key]
        for key in ('refine_ratio', 'refine_coverage')
        if settings.get(key) is not None
    }
    if len(amounts) > 1:
        raise ValueError(
            f'{amounts} both say how many regions are refined: vary one of '
            'them'
        )
    if 'exit_threshold' in settings:
        raise ValueError(
            'exit_threshold would decide nothing: a sweep tries every '
            'threshold on the same predictions'
        )
    idle = [key for key in SELECTING if key in settings]
    where, hint = 'in these weights', 'Vary selection=true as well'
    if 'selection' in settings:
        where, hint = 'by selection=false', 'Vary it in a sweep of its own'
    if idle and getattr(backbone, 'selection', None) is False:
        raise ValueError(
            f'{", ".join(idle)} would decide nothing: informative-region '
            f'selection is off {where}, so every region is refined. {hint}'
        )


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
            except (AttributeError, TypeError, ValueError) as error:
                refused.append((owner, name, value))
                errors.append(error)
        if len(refused) == len(waiting):
            raise ValueError(str(errors[0])) from errors[0]
        waiting = refused


def _find(backbone: nn.Module, key: str) -> tuple[Any, str]:
    owner, name = backbone, key
    while '.' in name:
        part, _, name = name.partition('.')
        owner = getattr(owner, part, None)
    if not _is_setting(owner, name):
        raise ValueError(
            f'{type(backbone).__name__} has no setting {key!r} to vary, such '
            'as score_metric or refine_ratio of a scope; what is not checked '
            'when it is set belongs into the config'
        )
    return owner, name


def _is_setting(owner: Any, name: str) -> bool:
    """Tell whether an object checks an attribute whenever it is set."""
    own = getattr(type(owner), name, None)
    by_property = isinstance(own, property) and own.fset is not None
    return by_property or name in getattr(owner, 'checks', {})


def _values(text: str) -> list[Any]:
    """Values of JSON, or words, parted by commas."""
    try:
        return json.loads(f'[{text}]')
    except ValueError:
        return [_value(part) for part in text.split(',')]


def _value(text: str) -> Any:
    for read in (json.loads, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text
