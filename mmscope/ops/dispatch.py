"""Which backend computes an operator: honoured or refused, never swapped."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from . import extension, mamba_ssm, triton_backend
from .transforms import is_transformed

BACKENDS = ('reference', 'cpu', 'triton', 'mamba_ssm')
FAST_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
DEFAULT_DEVICE = 'cpu'

_warned: set[str] = set()


def check_backend(backend: str, with_auto: bool = False) -> None:
    """Refuse names that no backend has.

    Raises:
        ValueError: If the name is unknown.
    """
    names = (('auto',) if with_auto else ()) + BACKENDS
    if backend not in names:
        raise ValueError(f'backend must be one of {names}, got {backend!r}')


def why_unavailable(
    backend: str, device: torch.device | str = DEFAULT_DEVICE
) -> str | None:
    """Say why a backend cannot run the selective scan on a device.

    Args:
        backend (str): One of ``BACKENDS``.
        device (torch.device | str): Where the tensors are. Defaults to 'cpu'.

    Returns:
        str | None: None if it can run, else the reason and what fixes it.

    Raises:
        ValueError: If the backend's name is unknown.
    """
    check_backend(backend)
    kind = torch.device(device).type
    if backend == 'reference':
        return None
    if backend == 'cpu':
        if kind != 'cpu':
            return f'it needs tensors on the CPU, got {kind}; call .cpu()'
        return extension.why_not_compiled()
    if backend == 'triton':
        return triton_backend.why_not(device)
    if kind != 'cuda':
        return f'it needs tensors on a CUDA device, got {kind}; call .cuda()'
    return mamba_ssm.why_not_installed()


def available_backends(
    device: torch.device | str | None = None,
) -> tuple[str, ...]:
    """Return the backends that can run the selective scan.

    Args:
        device (torch.device | str, optional): Where the tensors are. Defaults
            to None, which means anywhere on this machine.

    Returns:
        tuple[str, ...]: Names, in the order of ``BACKENDS``.
    """
    here = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']
    devices = here if device is None else [device]
    return tuple(
        backend
        for backend in BACKENDS
        if any(why_unavailable(backend, d) is None for d in devices)
    )


def resolve_scan(backend: str, u: Tensor) -> str:
    """Return the backend that computes a selective scan.

    Raises:
        RuntimeError: If the wanted backend cannot run.
        ValueError: If the name is unknown.
    """
    check_backend(backend, with_auto=True)
    if backend == 'auto':
        return _automatic(u, _fastest_on_cuda)
    _require(backend, u, why_unavailable(backend, u.device))
    return backend


def resolve_conv(backend: str, x: Tensor) -> str:
    """Return the backend that computes a causal convolution.

    Args:
        backend (str): 'auto' or one of ``BACKENDS``; 'mamba_ssm' has no
            convolution.
        x (Tensor): Input in the dtype of the computation.

    Returns:
        str: 'reference', 'cpu' or 'triton'.

    Raises:
        RuntimeError: If the wanted backend cannot run.
        ValueError: If the name is unknown.
    """
    check_backend(backend, with_auto=True)
    if backend == 'auto':
        return _automatic(x, _fastest_conv_on_cuda)
    reason = why_unavailable(backend, x.device)
    if backend == 'mamba_ssm':
        reason = "it has no causal convolution; use backend='auto'"
    _require(backend, x, reason)
    return backend


def _fastest_on_cuda(x: Tensor) -> str:
    """Choose between the scans of a GPU.

    mamba_ssm where it is installed, else triton. That order is not measured
    for any shape: no GPU was at hand. mamba_ssm's kernels have run on many
    GPUs, ours under Triton's interpreter and its compiler alone, so an
    installed mamba_ssm is taken. What ours take is counted and predicted
    (docs/results/gpu.md); what is measured faster will be preferred by shape.
    """
    if why_unavailable('mamba_ssm', x.device) is None:
        return 'mamba_ssm'
    return 'triton'


def _fastest_conv_on_cuda(x: Tensor) -> str:
    # With mamba_ssm's scan stays PyTorch's convolution, as long as nobody
    # has measured ours against it.
    is_triton = _fastest_on_cuda(x) == 'triton'
    has_triton = why_unavailable('triton', x.device) is None
    return 'triton' if is_triton and has_triton else 'reference'


def _automatic(x: Tensor, on_cuda: Callable[[Tensor], str]) -> str:
    if x.dtype == torch.float64:
        return 'reference'
    if is_transformed():
        return 'reference'
    kind = x.device.type
    if kind not in ('cpu', 'cuda'):
        _warn_slow(f'no fast backend for the device type {kind!r}')
        return 'reference'
    fast = 'cpu' if kind == 'cpu' else on_cuda(x)
    reason = why_unavailable(fast, x.device)
    if reason is None:
        return fast
    _warn_slow(f'{fast} is out: {reason}')
    return 'reference'


def _require(backend: str, x: Tensor, reason: str | None) -> None:
    takes_all = backend == 'reference'
    if reason is None and not takes_all and is_transformed():
        reason = (
            'its kernels have gradients alone, no forward-mode derivatives, '
            'and torch.func does not pass through them'
        )
    if reason is None and not takes_all and x.dtype not in FAST_DTYPES:
        names = ', '.join(str(dtype) for dtype in FAST_DTYPES)
        reason = f'it computes {names}, got {x.dtype}; cast the inputs'
    if reason is not None:
        raise RuntimeError(
            f'backend={backend!r} cannot run: {reason}. backend="auto" picks '
            'one that can.'
        )


def _warn_slow(reason: str) -> None:
    if reason in _warned:
        return
    _warned.add(reason)
    warnings.warn(
        f'mmscope.ops uses the slow reference backend: {reason}',
        RuntimeWarning,
        stacklevel=2,
    )
