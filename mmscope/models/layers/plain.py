"""Which modules may be read around, and which have to be called."""

from __future__ import annotations

from typing import TypeGuard, TypeVar

from torch import nn

Kind = TypeVar('Kind', bound=nn.Module)
_HOOKS = (
    '_forward_hooks',
    '_forward_pre_hooks',
    '_backward_hooks',
    '_backward_pre_hooks',
)


def is_plain(module: nn.Module, kind: type[Kind]) -> TypeGuard[Kind]:
    """Tell whether a module does what its weights say, and nobody watches.

    An adapter (LoRA), a quantised or parametrised layer has another class; a
    pruned one computes its weight in a hook; some libraries put a ``forward``
    of their own on the object. All of these have to be called.
    """
    state = module.__dict__
    return (
        type(module) is kind
        and 'forward' not in state
        and not any(state[name] for name in _HOOKS)
    )
