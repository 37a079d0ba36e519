"""Models with the gate that a command line asks for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmengine.config import Config
from torch import nn

from mmscope.errors import UserError
from mmscope.evaluation.loading import build_model
from mmscope.models import attach_gate, is_two_stage
from mmscope.models.scoping import HostGate
from mmscope.runtime import ExitChoice, gate_hooks, set_exit_threshold
from mmscope.runtime.exit_gate import check_kind


def load_model(cfg: Config, args: argparse.Namespace) -> nn.Module:
    """Build the model that exits as the command line or the config says."""
    remarks = set_exit_threshold(cfg, args.exit_threshold)
    for remark in remarks:
        print(remark)
    model = build_model(cfg, args.checkpoint, args.device)
    if is_two_stage(model):
        for hook in gate_hooks(cfg.get('custom_hooks')):
            attach_gate(model, hook.get('exit_threshold'))
    return model


def set_gate(model: nn.Module, chosen: float | ExitChoice | None) -> None:
    """Give a model's gate another threshold; say how a file chose it.

    Raises:
        UserError: If a model that cannot exit is given one, or its gate
            decides by another kind of confidence.
    """
    if chosen is None:
        return
    if not is_two_stage(model):
        raise UserError(
            f'a threshold was given, but {type(model).__name__} has a '
            f'{type(model.backbone).__name__}, which cannot exit early'
        )
    if isinstance(chosen, ExitChoice):
        check_kind(chosen, _possible_kinds(model), 'model')
        attach_gate(
            model,
            chosen.exit_threshold,
            chosen.confidence,
            chosen.temperature,
        )
        print(chosen.sentence())
    else:
        attach_gate(model, chosen)


def _possible_kinds(model: nn.Module) -> Sequence[str]:
    """Kinds of confidence that a threshold may have been chosen for.

    As in :func:`set_exit_threshold`: one without an exit head takes the kind
    with the threshold, an exit head was trained for its own.
    """
    gate = model.backbone.gate
    return gate.kinds if isinstance(gate, HostGate) else [gate.kind]
