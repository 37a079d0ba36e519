"""Exit gates in configs: who can have one, and its threshold."""

from __future__ import annotations

import inspect
from collections.abc import Collection

from mmengine.config import Config

from mmscope.errors import UserError
from mmscope.models import is_two_stage
from mmscope.models.heads.confidence import SOFTMAX_CONFIDENCES
from mmscope.registry import HOOKS, MODELS

from .config import type_name, walk
from .exit_choice import ExitChoice

GATE_HOOK = 'ConfidenceGateHook'
# What MMEngine takes from the entry of any hook.
ANY_HOOK = ('type', 'priority', '_scope_')


def set_exit_threshold(
    cfg: Config, threshold: float | ExitChoice | None
) -> list[str]:
    """Put a threshold into the gate hook, adding the hook where absent.

    Args:
        cfg (Config): Changed in place.
        threshold (float | ExitChoice | None): η, or what a file says of it;
            None leaves the config's.

    Returns:
        list[str]: For a choice from a file, how it was chosen.

    Raises:
        UserError: If no backbone in the config can exit early, it has
            another kind of confidence than the threshold was chosen for, or
            its gate hooks are not right (:func:`gate_hooks`).
    """
    if threshold is None:
        return []
    chosen = threshold if isinstance(threshold, ExitChoice) else None
    value = chosen.exit_threshold if chosen else threshold
    if not can_exit(cfg):
        kind = cfg.model.get('backbone', {}).get('type')
        raise UserError(
            f'--exit-threshold {value} needs a backbone that can exit '
            f'early such as mmscope.MambaScope, this config has {kind}'
        )
    options = {'exit_threshold': value}
    hooks = list(cfg.get('custom_hooks') or [])
    gates = gate_hooks(hooks)
    if chosen:
        nodes = [node for _, node in walk(cfg.model, 'model')]
        options['temperature'] = chosen.temperature
        options.update(_confidence_of(chosen, nodes, gates))
    for gate in gates:
        gate.update(options)
    if not gates:
        hooks.append({'type': f'mmscope.{GATE_HOOK}', **options})
    cfg.custom_hooks = hooks
    return [chosen.sentence()] if chosen else []


def gate_hooks(hooks: list[dict] | None) -> list[dict]:
    """Choose the hook that wires the gate, no copy of it.

    Args:
        hooks (list[dict] | None): The config's ``custom_hooks``.

    Returns:
        list[dict]: It, or nothing where the config has none.

    Raises:
        UserError: If there are two, or it has a key that no gate hook knows.
    """
    found = all_gate_hooks(hooks)
    if len(found) > 1:
        raise UserError(
            f'custom_hooks has {len(found)} hooks {GATE_HOOK}, expected one: '
            'a model has one gate. Keep the one that shall decide'
        )
    for hook in found:
        _check_keys(hook)
    return found


def all_gate_hooks(hooks: list[dict] | None) -> list[dict]:
    """Choose the same without a look at them: whoever builds refuses two."""
    return [hook for hook in hooks or [] if type_name(hook) == GATE_HOOK]


def check_kind(chosen: ExitChoice, kinds: Collection[str], owner: str) -> None:
    """Refuse a threshold that was chosen for another kind of confidence.

    Args:
        chosen (ExitChoice): What a file says.
        kinds (Collection[str]): Kinds that the gate may decide by.
        owner (str): Who has them, for the message.

    Raises:
        UserError: With both kinds.
    """
    if chosen.confidence in kinds:
        return
    raise UserError(
        f'the exit threshold {chosen.exit_threshold:.6g} was chosen for '
        f'confidence={chosen.confidence!r}, this {owner} has '
        f'{" or ".join(map(repr, kinds))}: choose one for this {owner} with '
        'mmscope sweep --save-threshold'
    )


def can_exit(cfg: Config) -> bool:
    """Tell whether a backbone in a config, at any depth, can exit early."""
    types = [
        node.get('type')
        for key, node in walk(cfg.model, 'model')
        if key.endswith('.backbone')
    ]
    scope = cfg.get('default_scope')
    with MODELS.switch_scope_and_registry(scope) as registry:
        return any(
            is_two_stage(registry.get(kind) if isinstance(kind, str) else kind)
            for kind in types
        )


def _confidence_of(
    chosen: ExitChoice, nodes: list[dict], gates: list[dict]
) -> dict[str, str]:
    """Options that make the gate decide as the threshold was chosen."""
    heads = [node.get('exit_head') for node in nodes]
    kinds = [head.get('confidence', 'mean_present') for head in heads if head]
    if kinds:
        # The hook wins over the head.
        told = [gate.get('confidence') for gate in gates]
        kinds = [kind for kind in told if kind] or kinds
    check_kind(chosen, kinds or SOFTMAX_CONFIDENCES, 'config')
    return {} if kinds else {'confidence': chosen.confidence}


def _check_keys(hook: dict) -> None:
    """Refuse keys that would be ignored where no runner builds the hook."""
    known = [*inspect.signature(HOOKS.get(GATE_HOOK)).parameters]
    if odd := sorted(set(hook) - {*known, *ANY_HOOK}):
        raise UserError(
            f'{GATE_HOOK} in custom_hooks has {", ".join(map(repr, odd))}, '
            f'which it does not know: its keys are {", ".join(known)}'
        )
