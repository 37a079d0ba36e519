"""What a forward decided, for whoever asked to see it.

A model keeps nothing: records go to the lists of those who observe it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass
class Record:
    """What the blocks of one pass did.

    Attributes:
        lengths (list[int]): Tokens in each block that ran, summary tokens
            included; of a two-stage model those of the coarse stage.
        directions (list[Tensor | None]): What each block ran, (B, 2) forward
            and backward; None where all images ran both.
        reductions (list[Any]): One entry for each stage of a token
            reduction.
    """

    lengths: list[int] = field(default_factory=list)
    directions: list[Tensor | None] = field(default_factory=list)
    reductions: list[Any] = field(default_factory=list)
    _is_detached: ClassVar[bool] = False

    def detached(self) -> Self:
        """Copy it without the graphs that its tensors hang on."""
        if self._is_detached:
            return self
        copied = _detached(self)
        copied._is_detached = True
        return copied


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if type(value) in (list, tuple):
        return type(value)(map(_detached, value))
    if isinstance(value, dict):
        return {key: _detached(entry) for key, entry in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        found = {f.name: getattr(value, f.name) for f in fields(value)}
        return replace(value, **_detached(found))
    return value


class Observed(nn.Module):
    """A module whose forward hands out a record."""

    def deliver(self, record: Record) -> None:
        """Give a record, of the forward that ends now, to every observer.

        In evaluation they get it without its graph.
        """
        # A dict of integers is what a compiler can guard on.
        if _active:
            _sink(self, record)


# The lists of those who observe a module. Outside the modules, so that no
# copy, no state dict and no compiler ever meets them.
_observers: WeakKeyDictionary[Observed, list[list[Record]]]
_observers = WeakKeyDictionary()
_active: dict[int, bool] = {}
_changing = Lock()


def _append(module: Observed, record: Record) -> None:
    lists = _observers.get(module)
    if not lists:
        return
    record = record if module.training else record.detached()
    for records in lists:
        records.append(record)


_sink: Callable[[Observed, Record], None] = _append


def _hide_from_compilers() -> None:
    """Let a compiler call the append; traced, it would compile each time."""
    global _sink
    # A slow import that nobody needs who does not compile.
    if _sink is _append and 'torch._dynamo' in sys.modules:
        _sink = torch._dynamo.disable(_append)


def unwrap_model(model: nn.Module) -> nn.Module:
    """Strip DDP and test-time-augmentation wrappers off a model."""
    while isinstance(inner := getattr(model, 'module', None), nn.Module):
        model = inner
    return model


def find_observed(model: nn.Module) -> Observed:
    """Find the outermost module of a model that hands out records.

    Raises:
        TypeError: If it is no module.
        ValueError: If there is none.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f'expected a model, got {type(model).__name__}')
    for module in unwrap_model(model).modules():
        if isinstance(module, Observed):
            return module
    raise ValueError(
        f'{type(unwrap_model(model)).__name__} has no part that records what '
        'a forward does: it needs a backbone of mmscope'
    )


def is_observed(module: Observed) -> bool:
    """Tell whether a forward's record would reach anyone."""
    return bool(_observers.get(module))


@contextmanager
def observe(model: nn.Module) -> Iterator[list[Any]]:
    """Collect the records of a model's forwards.

    Example::

        with observe(model) as records:
            model.test_step(batch)
        print(records[0].exited)

    Observers nest and each gets every record. In training records keep their
    graph; in evaluation they have none. A compiled model has one graph break
    at its end while it is observed.

    Args:
        model (nn.Module): Host model, wrapped or not, or the backbone.

    Yields:
        list[Record]: One record a forward, in order. It stays the caller's
        afterwards; the model lets go of it.

    Raises:
        ValueError: If nothing in the model records anything.
    """
    module = find_observed(model)
    records: list[Record] = []
    _hide_from_compilers()
    with _changing:
        _observers.setdefault(module, []).append(records)
        _active[id(records)] = True
    try:
        yield records
    finally:
        with _changing:
            del _active[id(records)]
            # By identity: two empty lists are equal.
            # Where nobody closed it the module may be gone already.
            found = _observers.pop(module, [])
            left = [x for x in found if x is not records]
            if left:
                _observers[module] = left
