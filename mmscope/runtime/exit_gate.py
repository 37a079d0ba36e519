"""Exit gates in configs: who can have one, and its threshold."""

from __future__ import annotations

from mmengine.config import Config

from mmscope.errors import UserError
from mmscope.models import is_two_stage
from mmscope.models.heads.confidence import SOFTMAX_CONFIDENCES
from mmscope.registry import MODELS

from .config import type_name, walk
from .exit_choice import ExitChoice

GATE_HOOK = 'ConfidenceGateHook'


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
        UserError: If no backbone in the config can exit early, or it has
            another kind of confidence than the threshold was chosen for.
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
    """Choose the hooks that wire a gate, not copies."""
    return [hook for hook in hooks or [] if type_name(hook) == GATE_HOOK]


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
    if not kinds:
        if chosen.confidence in SOFTMAX_CONFIDENCES:
            return {'confidence': chosen.confidence}
        kinds = list(SOFTMAX_CONFIDENCES)
    elif chosen.confidence in kinds:
        return {}
    raise UserError(
        f'the exit threshold {chosen.exit_threshold:.6g} was chosen for '
        f'confidence={chosen.confidence!r}, this config has '
        f'{" or ".join(map(repr, kinds))}: choose one for this config with '
        'mmscope sweep --save-threshold'
    )
