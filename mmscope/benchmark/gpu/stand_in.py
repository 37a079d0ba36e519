"""A stand-in for ``selective_scan_cuda`` in a dry run: its calls, no speed."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mmscope.ops.reference import selective_scan_reference


def _reference(
    inputs: Sequence[Tensor], softplus: bool, gated: bool = True
) -> Tensor:
    u, delta, A, B, C, D, z, bias = inputs
    tokens = (x.squeeze(1).mT for x in (B, C))
    z = z.mT if gated else None
    return selective_scan_reference(
        u.mT, delta.mT, A, *tokens, D, z, bias, softplus
    ).mT


def fwd(*args: Any) -> tuple[Tensor, ...]:
    """Compute as ``selective_scan_cuda.fwd`` does, with a gate."""
    *inputs, softplus = args
    _check(inputs)
    out = _reference(inputs, softplus, gated=False).contiguous()
    return out, inputs[0].new_zeros(1), _reference(inputs, softplus)


def bwd(*args: Any) -> tuple[Tensor, ...]:
    """Compute as ``selective_scan_cuda.bwd`` does, with a gate."""
    inputs, (grad, _, out, _, softplus, _) = args[:8], args[8:]
    if out is None:
        raise ValueError('a gated backward wants the ungated output')
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in inputs]
        grads = torch.autograd.grad(_reference(leaves, softplus), leaves, grad)
    *others, dz, dbias = grads
    return *others, dbias, dz


def _check(inputs: Sequence[Tensor]) -> None:
    u, delta, A, B, C, D, z, bias = inputs
    for x in (u, delta, B, C, z):
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
