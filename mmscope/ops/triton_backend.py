"""The Triton backend: can it run here, and its ops.

The kernels are in ``triton_kernels``, which imports triton: that happens
when an op first runs, so that importing mmscope does not.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from types import ModuleType

import torch
from torch import Tensor

from .library import implement
from .library_bidirectional import CONV, SCAN

OLDEST = (3, 0)
INSTALL_COMMAND = "pip install 'torch>=2.4' (its CUDA build brings triton)"
INTERPRETER_VARIABLE = 'TRITON_INTERPRET'
DEVICES = ('CPU', 'CUDA')


def probe() -> str | None:
    """Look for a triton that the kernels run on, without importing it.

    Returns:
        str | None: None if it is there, else the reason and the command that
        fixes it.
    """
    if importlib.util.find_spec('triton') is None:
        return f'triton is not installed; {INSTALL_COMMAND}'
    try:
        version = importlib.metadata.version('triton')
    except importlib.metadata.PackageNotFoundError:
        return None  # another distribution's build of it, nightly or Windows
    if tuple(int(part) for part in version.split('.')[:2]) < OLDEST:
        return (
            f'triton {version} is too old, 3.0 or newer is needed; '
            f'{INSTALL_COMMAND}'
        )
    return None


# Once, at import: torch.compile cannot trace through either.
_WHY_NOT_INSTALLED = probe()
_INTERPRETED = os.environ.get(INTERPRETER_VARIABLE) == '1'


def why_not(device: torch.device | str) -> str | None:
    """Say why the Triton kernels cannot run on a device.

    Under Triton's interpreter (``TRITON_INTERPRET=1`` before mmscope is
    imported; for tests, thousands of times slower) they run on the CPU.

    Args:
        device (torch.device | str): Where the tensors are.

    Returns:
        str | None: None if they can, else the reason and what fixes it.
    """
    if _WHY_NOT_INSTALLED:
        return _WHY_NOT_INSTALLED
    kind = torch.device(device).type
    if kind == 'cpu' and _INTERPRETED:
        return None
    if kind != 'cuda':
        return f'it needs tensors on a CUDA device, got {kind}; call .cuda()'
    if not torch.cuda.is_available():
        return (
            'this torch sees no CUDA device; run it on a machine with a GPU '
            'and its driver, with a CUDA build of torch'
        )
    return None


def _kernels() -> ModuleType:
    from . import triton_kernels

    return triton_kernels


def _stacked(tensors: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    """Add the axis of directions to the scan's tensors but the gate."""
    return [
        x if x is None or i == 6 else x.unsqueeze(0)
        for i, x in enumerate(tensors)
    ]


def _scan(*args) -> tuple[Tensor, Tensor]:
    *options, save_states = args[8:]
    inputs = _kernels().ScanInputs(*_stacked(args[:8]), *options)
    out, states = _kernels().scan_forward(inputs, save_states)
    return out[0], states[0] if save_states else states


def _scan_backward(grad: Tensor, *args) -> tuple[Tensor, ...]:
    states, *options = args[8:]
    inputs = _kernels().ScanInputs(*_stacked(args[:8]), *options)
    grads = _kernels().scan_backward(inputs, grad, states)
    return tuple(
        grad.new_empty((0,)) if g is None else g if i == 6 else g[0]
        for i, g in enumerate(grads)
    )


def _both_scans(*args) -> tuple[Tensor, Tensor, Tensor]:
    softplus, scored, save_states = args[8:]
    inputs = _kernels().ScanInputs(*args[:8], softplus, False)
    return _kernels().both_directions_forward(inputs, scored, save_states)


def _both_scans_backward(grad: Tensor, *args) -> tuple[Tensor, ...]:
    states, softplus, _ = args[8:]
    inputs = _kernels().ScanInputs(*args[:8], softplus, False)
    grads = _kernels().scan_backward(inputs, grad, states)
    return tuple(grad.new_empty((0,)) if g is None else g for g in grads)


def _conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
) -> Tensor:
    bias = bias if bias is None else bias.unsqueeze(0)
    weight = weight.unsqueeze(0)
    return _kernels().conv_forward(x, weight, bias, silu, reverse)[0]


def _conv_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, ...]:
    bias = bias if bias is None else bias.unsqueeze(0)
    weight = weight.unsqueeze(0)
    x, weight, bias = _kernels().conv_backward(
        grad.unsqueeze(0), x, weight, bias, silu, reverse
    )
    bias = grad.new_empty((0,)) if bias is None else bias[0]
    return x, weight[0], bias


def _both_convs(
    x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool
) -> Tensor:
    return _kernels().conv_forward(x, weight, bias, silu, False)


def _both_convs_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool
) -> tuple[Tensor, ...]:
    x, weight, bias = _kernels().conv_backward(
        grad, x, weight, bias, silu, False
    )
    return x, weight, grad.new_empty((0,)) if bias is None else bias


implement('selective_scan_triton', DEVICES, _scan)
implement('selective_scan_triton_backward', DEVICES, _scan_backward)
implement('causal_conv1d_triton', DEVICES, _conv)
implement('causal_conv1d_triton_backward', DEVICES, _conv_backward)
implement(SCAN, DEVICES, _both_scans)
implement(f'{SCAN}_backward', DEVICES, _both_scans_backward)
implement(CONV, DEVICES, _both_convs)
implement(f'{CONV}_backward', DEVICES, _both_convs_backward)
