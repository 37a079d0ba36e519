"""Kernels on tensors of more than 2 ** 31 elements.

No reference can run on all of that. But a channel of the scan depends on no
other one, and a sequence on no other one; and where the output's gradient is
zero outside of some channels and sequences, the gradients of what they share
depend on these alone. So the reference runs on the first and the last ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from mmscope.benchmark.gpu.cases import CONV, ParityCase
from mmscope.benchmark.gpu.inputs import draw_plain
from mmscope.benchmark.gpu.parity import (
    REFERENCE,
    TRITON,
    TensorRow,
    function_of,
    judge,
    nan_filled_memory,
    require_triton,
    slack_of,
)
from mmscope.benchmark.gpu.record import Skip
from mmscope.benchmark.gpu.scale import Scale
from mmscope.benchmark.gpu.steps import Step
from mmscope.benchmark.memory import free_bytes
from mmscope.ops.library import CHUNK

# First and last sequences and channels that are compared.
SEQUENCES, CHANNELS = 1, 16
# Of (batch, seqlen, dim) in a forward and a backward: inputs, output and the
# gradients of all. States are saved in float32, and partial sums of what the
# channels share may take as much again.
LARGE_TENSORS = 8
Slices = tuple[list[slice], list[slice]]


def huge_steps(scale: Scale) -> Iterator[Step]:
    """List the comparisons, one a case."""
    for case in scale.huge:
        yield Step(case.name, partial(_compare, case, scale), 45.0)


def needed_bytes(case: ParityCase) -> int:
    """Estimate the memory of a forward and a backward."""
    elements = case.batch * case.seqlen * case.dim
    states = 0 if case.op == CONV else 4 * elements * case.d_state // CHUNK
    return elements * LARGE_TENSORS * case.torch_dtype.itemsize + 2 * states


def _compare(case: ParityCase, scale: Scale, left: float) -> list[TensorRow]:
    require_triton(scale.device)
    needed, free = needed_bytes(case), free_bytes(scale.device)
    if free is not None and needed > free:
        raise Skip(
            f'about {needed / 2**30:.0f} GiB are needed, {free / 2**30:.0f} '
            'GiB may be used'
        )
    inputs = draw_plain(case, scale.device)
    ends = _ends(case.batch, SEQUENCES), _ends(case.dim, CHANNELS)
    picked = _pick(inputs, ends)
    # A gradient for what is compared, zero elsewhere.
    like = picked[_first(case)]
    grad = torch.randn(like.shape, device=like.device).to(like.dtype)
    with nan_filled_memory():
        actual = _run(case, inputs, grad, TRITON, ends)
    del inputs
    actual = _pick(actual, ends)
    truth = _run(case, {k: v.double() for k, v in picked.items()}, grad)

    def in_same_dtype() -> dict[str, Tensor]:
        return _run(case, picked, grad)

    return judge(case, actual, truth, in_same_dtype, slack_of(scale.device))


def _first(case: ParityCase) -> str:
    return 'x' if case.op == CONV else 'u'


def _ends(number: int, count: int) -> list[slice]:
    """Slices, as indices would copy all of a tensor with one sequence."""
    if number <= 2 * count:
        return [slice(0, number)]
    return [slice(0, count), slice(number - count, number)]


def _pick(tensors: dict[str, Tensor], ends: Slices) -> dict[str, Tensor]:
    """Cut out what the chosen sequences and channels see."""
    sequences, channels = ends
    found = {}
    for name, x in tensors.items():
        if x.ndim == 3 and name not in ('B', 'C'):
            x = torch.cat([x[..., part] for part in channels], -1)
        elif x.ndim < 3:
            x = torch.cat([x[part] for part in channels])
        if x.ndim == 3:
            x = torch.cat([x[part] for part in sequences])
        found[name] = x
    return found


def _spread(grad: Tensor, like: Tensor, ends: Slices) -> Tensor:
    """Put the gradient of what is compared into one of zeros."""
    full = torch.zeros_like(like)
    sequences, channels = ends
    row = 0
    for some in sequences:
        rows = slice(row, row + some.stop - some.start)
        column = 0
        for part in channels:
            columns = slice(column, column + part.stop - part.start)
            full[some, :, part] = grad[rows, :, columns]
            column = columns.stop
        row = rows.stop
    return full


def _run(
    case: ParityCase,
    inputs: dict[str, Tensor],
    grad: Tensor,
    backend: str = REFERENCE,
    ends: Slices | None = None,
) -> dict[str, Tensor]:
    leaves = {k: x.detach().requires_grad_() for k, x in inputs.items()}
    out = function_of(case, backend)(**leaves)
    full = grad.to(out) if ends is None else _spread(grad, out.detach(), ends)
    grads = torch.autograd.grad(out, list(leaves.values()), full)
    return dict(out=out.detach(), **dict(zip(leaves, grads, strict=True)))
