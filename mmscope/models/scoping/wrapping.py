"""What may be wrapped by an early exit, and how it runs inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from mmscope.models.scoping.two_stage import is_two_stage
from mmscope.registry import MODELS


@contextmanager
def running_statistics(module: nn.Module) -> Iterator[None]:
    """Let norms read their running statistics, and not change them.

    Args:
        module (nn.Module): What runs inside; its norms with running
            statistics are in evaluation mode, everything else as it was.

    Yields:
        None: The norms are as before afterwards.
    """
    norms = [m for m in _with_statistics(module) if m.training]
    for norm in norms:
        norm.training = False
    try:
        yield
    finally:
        for norm in norms:
            norm.training = True


def _with_statistics(module: nn.Module) -> Iterator[nn.Module]:
    # Batch norm of torch, mmcv and others: what has the buffer keeps it.
    for part in module.modules():
        if part._buffers.get('running_mean') is not None:
            yield part


def build_backbone(config: dict[str, Any]) -> nn.Module:
    """Build a backbone by the registry of the default scope.

    Raises:
        ValueError: If it is no such config, or nobody knows the type.
    """
    if not isinstance(config, dict) or 'type' not in config:
        raise ValueError(
            'ExitOnly wraps a backbone: backbone must be a dict with a type, '
            f"such as dict(type='ResNet', depth=50), got {config!r}"
        )
    try:
        return MODELS.build(config)
    except KeyError as error:
        raise ValueError(
            f'ExitOnly cannot build its backbone {config["type"]!r}: {error}. '
            'Name its host where it is another than the default scope, such '
            "as type='mmpretrain.ResNet'"
        ) from error


def check_wrapped(backbone: nn.Module) -> None:
    """Refuse a backbone that must not run twice in a forward.

    Raises:
        ValueError: If it exits early itself, reduces tokens, or recomputes
            batch norm.
    """
    name = type(backbone).__name__
    if is_two_stage(backbone):
        raise ValueError(
            f'ExitOnly adds an early exit, and {name} has one: use it alone'
        )
    if getattr(backbone, 'reduction', None) is not None:
        raise ValueError(
            'ExitOnly and a token reduction both want the record of a '
            f'forward, got {name} with {type(backbone.reduction).__name__}: '
            'use one of them'
        )
    recomputed = any(
        getattr(part, 'with_cp', False) for part in backbone.modules()
    )
    if recomputed and any(_with_statistics(backbone)):
        raise ValueError(
            f'{name} recomputes batch norm in the backward pass (with_cp), '
            'which would let the coarse pass into its statistics: set '
            'with_cp=False'
        )


def check_host(host: nn.Module, out_type: str) -> None:
    """Refuse a host that would not use what the wrapper gives.

    Raises:
        ValueError: If a neck or a head would get the wrong thing.
    """
    neck, name = getattr(host, 'neck', None), type(host).__name__
    classifies = getattr(host, 'head', None) is not None
    if out_type == 'cls_token' and not classifies:
        raise ValueError(
            f'{name} needs maps, ExitOnly gives vectors: set backbone.out_'
            "type='featmap'"
        )
    if out_type == 'cls_token' and neck is not None:
        raise ValueError(
            "ExitOnly with out_type='cls_token' averages the last map "
            f'itself, so the neck {type(neck).__name__} of {name} would '
            'get vectors: set model.neck=None'
        )
    if classifies and out_type == 'featmap':
        raise ValueError(
            f'the head of {name} judges vectors, coarse ones among them, '
            "and ExitOnly gives maps: set backbone.out_type='cls_token' "
            'and model.neck=None'
        )
