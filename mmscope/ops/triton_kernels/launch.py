"""What all launches share: shapes become grids, tensors become pointers."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor

# Tokens between two saved states, as in the C++ kernels.
CHUNK = 16
# Channels of a program: one a thread of one warp, which keeps all states of
# a channel in one thread, so that sums over states need no exchange.
CHANNELS = 32
# Stride of 1 that kernels take as a number not known when they are compiled.
# The compiler would read four states or channels at once and so spread a
# channel's states over threads; unknown, it leaves a channel to one thread.
ONE = 1
# Tokens of a program where a sequence is cut; must be a multiple of CHUNK.
SPAN = 128
# Programs that are wanted at least: a few for each of 132 multiprocessors.
ENOUGH_PROGRAMS = 1024


class Plan(NamedTuple):
    """How a scan is laid over programs.

    ``channels`` of a program, ``blocks`` of channels, ``span`` tokens of a
    program, ``spans`` of a sequence; one span means no cut.
    """

    channels: int
    blocks: int
    span: int
    spans: int


def plan_scan(sequences: int, seqlen: int, dim: int) -> Plan:
    """Choose between whole sequences and spans; the only place that does.

    Whole: one program walks all tokens, each read once. Spans: three launches
    (states of the spans, their combination, the outputs) read the inputs
    twice but give the GPU ``spans`` times as many programs, which pays where
    few long sequences leave it idle. The border is reasoned, not measured: no
    GPU was at hand when this was written.

    Args:
        sequences (int): Batch, times directions where each has a program.
        seqlen (int): Tokens.
        dim (int): Channels.

    Returns:
        Plan: Sizes of programs and grid.
    """
    channels = min(CHANNELS, triton.next_power_of_2(max(dim, 1)))
    blocks = triton.cdiv(dim, channels)
    few = sequences * blocks < ENOUGH_PROGRAMS
    span = SPAN if few and seqlen >= 2 * SPAN else max(seqlen, 1)
    return Plan(channels, blocks, span, triton.cdiv(seqlen, span))


def launch(
    kernel: object, grid: tuple[int, ...], *args: object, **sizes: object
) -> None:
    """Start a kernel on the device of its tensors.

    Args:
        kernel (object): A ``triton.jit`` function.
        grid (tuple[int, ...]): Programs along up to three axes.
        *args (object): Tensors and numbers; None for an absent tensor.
        **sizes (object): Constants that the kernel is compiled for.
    """
    if 0 in grid:
        return
    tensors = [x for x in args if isinstance(x, Tensor)]
    # An absent tensor is never read, but a kernel wants a pointer.
    args = tuple(tensors[0] if x is None else x for x in args)
    if tensors[0].is_cuda:
        with torch.cuda.device(tensors[0].device):
            kernel[grid](*args, **sizes)
    else:
        kernel[grid](*args, **sizes)


def last_dense(x: Tensor | None) -> Tensor | None:
    """Return a tensor whose last axis is contiguous, as kernels read it."""
    return x if x is None or x.stride(-1) == 1 else x.contiguous()


def with_equal_strides(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return two tensors of one shape that share strides, the last one 1."""
    if x.stride() == y.stride() and x.stride(-1) == 1:
        return x, y
    return x.contiguous(), y.contiguous()
