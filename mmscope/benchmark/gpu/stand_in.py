"""A stand-in for ``selective_scan_cuda`` in a dry run: its calls, no speed."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mmscope.ops.reference import selective_scan_reference


def _reference(inputs: tuple[Tensor | None, ...], softplus: bool) -> Tensor:
    u, delta, A, B, C, D, z, bias = inputs
    tokens = (x.squeeze(1).mT for x in (B, C))
    y = selective_scan_reference(
        u.mT,
        delta.mT,
        A,
        *tokens,
        D,
        None if z is None else z.mT,
        bias,
        softplus,
    )
    return y.mT


def fwd(*args: object) -> tuple[Tensor, ...]:
    """Compute as ``selective_scan_cuda.fwd`` does."""
    *inputs, softplus = args
    _check(inputs)
    out = _reference((*inputs[:6], None, inputs[7]), softplus)
    states = inputs[0].new_zeros(1)
    if inputs[6] is None:
        return out.contiguous(), states
    return out.contiguous(), states, _reference(tuple(inputs), softplus)


def bwd(*args: object) -> tuple[Tensor, ...]:
    """Compute as ``selective_scan_cuda.bwd`` does."""
    inputs, (grad, _, out, _, softplus, _) = args[:8], args[8:]
    gated = inputs[6] is not None
    if gated != (out is not None):
        raise ValueError('a gated backward wants the ungated output')
    given = [x for x in inputs if x is not None]
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in given]
        it = iter(leaves)
        full = tuple(x if x is None else next(it) for x in inputs)
        grads = torch.autograd.grad(_reference(full, softplus), leaves, grad)
    if not gated:
        return grads
    du, ddelta, dA, dB, dC, dD, dz, dbias = grads
    return du, ddelta, dA, dB, dC, dD, dbias, dz


def _check(inputs: list[Tensor | None]) -> None:
    u, delta, A, B, C, D, z, bias = inputs
    for x in (u, delta, B, C, z):
        if x is None:
            continue
        is_dense = x.stride(-1) == 1 or x.shape[-1] == 1
        if not is_dense or x.dtype != u.dtype:
            raise ValueError(
                f'last stride 1 and {u.dtype} are wanted, got strides '
                f'{x.stride()} and {x.dtype}'
            )
    for x in (A, D, bias):
        if x.dtype != torch.float32:
            raise ValueError(f'parameters are float32, got {x.dtype}')


@contextmanager
def stand_in(name: str, wanted: bool) -> Iterator[None]:
    """Put it where a module of that name would be, if that is wanted."""
    before = sys.modules.get(name)
    if wanted:
        module = types.ModuleType(name)
        module.fwd, module.bwd = fwd, bwd
        sys.modules[name] = module
    try:
        yield
    finally:
        if wanted and before is None:
            del sys.modules[name]
        elif wanted:
            sys.modules[name] = before
