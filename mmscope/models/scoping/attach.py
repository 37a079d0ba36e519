"""Wiring of exit gates, and thresholds for a while."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.dist import is_distributed
from torch import nn

from mmscope.models.layers import one_thread, unwrap_model
from mmscope.models.scoping.checks import check_temperature, check_threshold
from mmscope.models.scoping.gate import ExitHeadGate, Gate, HostGate
from mmscope.models.scoping.host_path import check_path
from mmscope.models.scoping.two_stage import TwoStage


def find_backbone(model: nn.Module) -> TwoStage:
    """Find the two-stage backbone of a host model.

    Raises:
        ValueError: If there is none.
    """
    model = unwrap_model(model)
    backbone = getattr(model, 'backbone', model)
    if isinstance(model, TwoStage):
        backbone = model
    if not isinstance(backbone, TwoStage):
        raise ValueError(
            'an exit gate needs a two-stage backbone such as '
            f'mmscope.MambaScope; {type(model).__name__} has '
            f'{type(backbone).__name__}'
        )
    return backbone


def attach_gate(
    model: nn.Module,
    exit_threshold: float | None = None,
    confidence: str | None = None,
    temperature: float | None = None,
) -> TwoStage:
    """Wire the exit gate of a host model; the one way to do so.

    A backbone with its own exit head decides by it; otherwise the backbone
    keeps an unregistered reference to the host, whose neck and head judge.
    No parameter, no module and no state-dict key is added.

    Args:
        model (nn.Module): Host model, possibly inside DDP or TTA wrappers.
        exit_threshold (float | None): η; None leaves the threshold that the
            backbone has. Defaults to None.
        confidence (str | None): Kind of confidence; None leaves that of the
            gate, or takes the default of the head's outputs where there is
            none. Defaults to None.
        temperature (float | None): T that logits are divided by before they
            are judged; None leaves that of the gate, 1 for a new one.
            Defaults to None.

    Returns:
        TwoStage: The backbone.

    Raises:
        ValueError: If the model has no two-stage backbone, nothing that
            could predict, does not fit the backbone, or the threshold, the
            kind or the temperature is invalid.
        RuntimeError: If weights are sharded (FSDP, ZeRO-3), and a gate or
            ``refine_coverage`` decides what a rank runs.
    """
    threshold = check_threshold(exit_threshold)
    backbone = find_backbone(model)
    own = backbone.exit_threshold
    _refuse_sharded(model, backbone, own if threshold is None else threshold)
    kind, scale = confidence, temperature
    if backbone.gate is not None:
        kind = backbone.gate.wanted_kind if kind is None else kind
        scale = backbone.gate.temperature if scale is None else scale
    scale = 1.0 if scale is None else check_temperature(scale)
    host = unwrap_model(model)
    if host is not backbone:
        backbone.check_host(host)
    if backbone.exit_head is not None:
        backbone.gate = ExitHeadGate(backbone, kind, scale)
    elif host is not backbone:
        _refuse_headless(host)
        gate = HostGate(host, kind, scale)
        if not _is_wired(backbone, host) and not _is_sharded(model):
            check_path(backbone, gate)
        backbone.gate = gate
    elif isinstance(backbone.gate, HostGate):
        backbone.gate = HostGate(backbone.gate.owner, kind, scale)
    elif not (confidence is None and temperature is None):
        raise ValueError(
            f'confidence={confidence!r} and temperature={temperature!r} have '
            f'nothing to judge: this {type(backbone).__name__} has no '
            'exit_head; pass the host model whose head predicts'
        )
    if threshold is not None:
        backbone.exit_threshold = threshold
    return backbone


def _refuse_headless(host: nn.Module) -> None:
    if getattr(host, 'head', None) is None:
        raise ValueError(
            f'{type(host).__name__} has no classification head and its '
            'backbone no exit head: set backbone.exit_head=dict('
            "type='mmscope.MultiLabelExitHead', num_classes=...)"
        )


def _is_wired(backbone: TwoStage, host: nn.Module) -> bool:
    gate = backbone.gate
    return isinstance(gate, HostGate) and gate.owner is host


@contextmanager
def decided_by(backbone: TwoStage, gate: Gate | None) -> Iterator[None]:
    """Let another gate, if any, decide for a while."""
    own = backbone.gate
    backbone.gate = gate or own
    try:
        yield
    finally:
        backbone.gate = own


@contextmanager
def at_threshold(model: nn.Module, eta: float | None) -> Iterator[TwoStage]:
    """Let a model decide by another exit threshold for a while.

    The threshold is the model's, so that of all threads: one thread may use
    the model meanwhile, others need a copy (``copy.deepcopy``).

    Args:
        model (nn.Module): Host model, wrapped or not, or the backbone.
        eta (float | None): η; None lets nobody exit and asks nobody.

    Yields:
        TwoStage: The backbone; its own threshold comes back afterwards.

    Raises:
        ValueError: If the model has no two-stage backbone, or η is invalid.
        RuntimeError: If weights are sharded (FSDP, ZeRO-3), and a gate or
            ``refine_coverage`` decides what a rank runs; if another thread
            is inside here, or runs an engine on the model.
    """
    backbone = find_backbone(model)
    # A walk over all parameters, which a process alone need not take.
    if is_distributed():
        _refuse_sharded(model, backbone, eta)
    with one_thread(backbone):
        before = backbone.exit_threshold
        backbone.exit_threshold = eta
        try:
            yield backbone
        finally:
            backbone.exit_threshold = before


def _is_sharded(model: nn.Module) -> bool:
    shards = _kinds('torch.distributed.fsdp', 'FullyShardedDataParallel')
    tensors = (
        *_kinds('torch.distributed.tensor', 'DTensor'),
        *_kinds('torch.distributed._tensor', 'DTensor'),
    )
    if any(isinstance(module, shards) for module in model.modules()):
        return True
    return any(
        hasattr(param, 'ds_id') or isinstance(param, tensors)
        for param in model.parameters()
    )


def _kinds(module: str, name: str) -> tuple[Any, ...]:
    """A class of a module that was imported, or nothing."""
    found = getattr(sys.modules.get(module), name, None)
    return () if found is None else (found,)


def _refuse_sharded(
    model: nn.Module, backbone: TwoStage, threshold: float | None
) -> None:
    coverage = backbone.refine_coverage
    decides = threshold is not None or coverage is not None
    if not decides or not _is_sharded(model):
        return
    if coverage is not None:
        raise RuntimeError(
            f'refine_coverage={coverage} runs the blocks once for each number '
            'of regions in a batch, so on sharded weights (FSDP, ZeRO-3) '
            'ranks would wait for each other: set a refine_ratio, or use DDP '
            'or one process'
        )
    raise RuntimeError(
        'an exit gate cannot run on sharded weights (FSDP, ZeRO-3): a rank '
        'whose images all exit would leave the others waiting for its '
        'weights. Set exit_threshold=None, or evaluate with DDP or on one '
        'process'
    )
