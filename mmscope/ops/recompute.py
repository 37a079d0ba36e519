"""Scan ops whose backward runs a differentiable forward once more."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .library import implement

NUM_INPUTS = 8


@contextlib.contextmanager
def _autograd_below_autograd() -> Iterator[None]:
    """Let autograd record inside an operator's kernel.

    Where a FLOP counter or another mode passes a call on, the dispatcher
    skips the autograd keys, since they have been served already.
    """
    known = torch._C.DispatchKey.__members__
    names = ('ADInplaceOrView', 'AutogradFunctionality')
    keys = [known[name] for name in names if name in known]
    is_excluded = torch._C._dispatch_tls_is_dispatch_key_excluded
    set_excluded = torch._C._dispatch_tls_set_dispatch_key_excluded
    before = [is_excluded(key) for key in keys]
    for key in keys:
        set_excluded(key, False)
    try:
        yield
    finally:
        for key, excluded in zip(keys, before, strict=True):
            set_excluded(key, excluded)


def _gradient(
    x: Tensor | None, found: Iterator[Tensor | None], grad: Tensor
) -> Tensor:
    if x is None:
        return grad.new_empty((0,))
    value = next(found)
    # Over an empty sequence the output does not depend on the parameters.
    return torch.zeros_like(x) if value is None else value.contiguous()


def register_recomputed_scan(
    backend: str, keys: tuple[str, ...], scan: Callable[..., Tensor]
) -> None:
    """Implement a scan op by a function that autograd can see through.

    Nothing but the inputs is kept for the backward, which costs one more
    forward.

    Args:
        backend (str): Backend, one of ``library.SCAN_BACKENDS``.
        keys (tuple[str, ...]): Dispatch keys that the function can serve.
        scan (Callable): Takes the eight tensors of the scan, then
            ``delta_softplus`` and ``reverse``; returns the output.
    """

    def forward(*args) -> tuple[Tensor, Tensor]:
        out = scan(*args[: NUM_INPUTS + 2])
        states = out.new_empty((0,), dtype=torch.float32)
        return out.contiguous(), states

    def backward(grad: Tensor, *args) -> tuple[Tensor, ...]:
        inputs = args[:NUM_INPUTS]
        delta_softplus, reverse = args[-2:]
        with torch.enable_grad(), _autograd_below_autograd():
            leaves = [
                x if x is None else x.detach().requires_grad_() for x in inputs
            ]
            out = scan(*leaves, delta_softplus, reverse)
            given = [x for x in leaves if x is not None]
            found = iter(
                torch.autograd.grad(out, given, grad, allow_unused=True)
            )
        return tuple(_gradient(x, found, grad) for x in leaves)

    name = f'selective_scan_{backend}'
    implement(name, keys, forward)
    implement(f'{name}_backward', keys, backward)
