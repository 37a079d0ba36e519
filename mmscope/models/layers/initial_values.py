"""Initial values that an ``init_cfg`` of a module around must not replace."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

# How MMEngine notes a parameter that no initialisation has changed.
UNTOUCHED = 'The value is the same before and after'


def is_overwritten(
    module: nn.Module, parameters: Iterable[nn.Parameter]
) -> bool:
    """Tell whether MMEngine's initialisation has changed parameters."""
    notes = getattr(module, '_params_init_info', {})
    return any(
        not notes[param]['init_info'].startswith(UNTOUCHED)
        for param in parameters
        if param in notes
    )
