"""What all launches share: shapes become grids, tensors become pointers."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple, TypeVar

import torch
import triton
from torch import Tensor

# Tokens between two saved states, as in the C++ kernels.
CHUNK = 16
# Channels of a program of one warp, widest first. 64: two a thread, which
# share what reading B and C costs, where there is enough to do. 32: one a
# thread. Narrower: the states of a channel are spread over threads, which
# costs exchanges but shortens the way from token to token.
WIDTHS = (64, 32, 16, 8)
# Of float32 and float16, where two channels a thread do not fit into the
# registers.
EXACT_WIDTHS = (32, 16, 8)
# Of the backward, where they do not either, whatever the dtype.
BACKWARD_WIDTHS = (32, 16, 8)
# Registers of a thread that a compiler may use: 16 warps on a multiprocessor.
MOST_REGISTERS = 128
# The same, by channels of a program, on Blackwell (compute capability 10.0
# and more): it multiplies numbers in pairs, which must lie side by side.
BLACKWELL, BLACKWELL_REGISTERS = 100, {64: 144}
# Of the second and third axis of a grid, which CUDA limits.
MOST_PROGRAMS = 65535
# Bytes of the widest load.
WIDEST = 16
# Tokens of a program where a sequence is cut; must be a multiple of CHUNK.
SPAN = 128
# Programs that are wanted at least: two for each of the four schedulers of
# 132 multiprocessors, so that one computes while the other waits.
ENOUGH_PROGRAMS = 1024
MaybeTensor = TypeVar('MaybeTensor', Tensor, Tensor | None)


class Plan(NamedTuple):
    """How a scan is laid over programs.

    ``channels`` of a program, ``blocks`` of channels, ``span`` tokens of a
    program, ``spans`` of a sequence; one span means no cut.
    """

    channels: int
    blocks: int
    span: int
    spans: int


def plan_scan(
    sequences: int,
    seqlen: int,
    dim: int,
    widths: tuple[int, ...],
    cuts_first: bool = False,
) -> Plan:
    """Choose widths and spans of programs; the only place that does.

    The widest programs of which there are enough to keep a GPU busy; if all
    widths leave it idle and the sequences are long, they are cut. Whole: one
    program walks all tokens, each read once. Spans: two launches more (states
    of the spans, their combination) read the inputs twice but give the GPU
    ``spans`` times as many programs. Reasoned from counted instructions
    (docs/results/gpu.md), not measured: no GPU was at hand.

    Args:
        sequences (int): Batch, times directions where each has a program.
        seqlen (int): Tokens.
        dim (int): Channels.
        widths (tuple[int, ...]): Channels of a program to choose from, widest
            first.
        cuts_first (bool): Whether to cut before programs get narrower, as
            pays where narrow ones do twice the work. Defaults to False.

    Returns:
        Plan: Sizes of programs and grid.
    """
    most = triton.next_power_of_2(max(dim, 1))
    cuts = (max(seqlen, 1), SPAN)[: 2 if seqlen >= 2 * SPAN else 1]
    tries = [(span, width) for span in cuts for width in widths]
    if cuts_first:
        tries = [(span, width) for width in widths for span in cuts]
    for span, width in tries:
        channels = min(width, most)
        spans = max(triton.cdiv(seqlen, span), 1)
        plan = Plan(channels, triton.cdiv(dim, channels), span, spans)
        if sequences * plan.blocks * spans >= ENOUGH_PROGRAMS:
            break
    return plan


def alignment(*tensors: Tensor | None) -> int:
    """Return the bytes, at most 16, that divide the address of every row."""
    found = WIDEST
    for x in tensors:
        if x is not None:
            start = x.storage_offset() if x.is_meta else 0
            steps = [n * x.element_size() for n in (start, *x.stride()[:-1])]
            address = 0 if x.is_meta else x.data_ptr()
            found = math.gcd(found, address, *steps)
    return found


def options_for(capability: int, sizes: dict[str, Any]) -> dict[str, Any]:
    """Return the constants of a launch with those that its GPU needs.

    Args:
        capability (int): Compute capability, such as 90 of 9.0.
        sizes (dict[str, Any]): What a kernel is compiled for.

    Returns:
        dict[str, Any]: The same, with the registers of a thread that this
        GPU's code takes.
    """
    if capability < BLACKWELL or sizes.get('maxnreg') is None:
        return sizes
    most = BLACKWELL_REGISTERS.get(sizes['CHANNELS'], sizes['maxnreg'])
    return sizes | dict(maxnreg=most)


@cache
def _capability(device: torch.device) -> int:
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def launch(
    kernel: Any, grid: tuple[int, ...], *args: object, **sizes: Any
) -> None:
    """Start a kernel on the device of its tensors.

    Args:
        kernel (Any): A ``triton.jit`` function.
        grid (tuple[int, ...]): Programs along up to three axes.
        *args (object): Tensors and numbers; None for an absent tensor.
        **sizes (Any): Constants that the kernel is compiled for.

    Raises:
        ValueError: If the grid has more programs than CUDA takes.
    """
    if 0 in grid:
        return
    if max(grid[1:], default=0) > MOST_PROGRAMS:
        raise ValueError(
            f'a kernel takes at most {MOST_PROGRAMS} sequences at once, times '
            f'directions, and as many spans, got the grid {grid}; split the '
            'batch'
        )
    tensors = [x for x in args if isinstance(x, Tensor)]
    # An absent tensor is never read, but a kernel wants a pointer.
    args = tuple(tensors[0] if x is None else x for x in args)
    if tensors[0].is_cuda:
        device = tensors[0].device
        sizes = options_for(_capability(device), sizes)
        with torch.cuda.device(device):
            kernel[grid](*args, **sizes)
    else:
        kernel[grid](*args, **sizes)


def last_dense(x: MaybeTensor) -> MaybeTensor:
    """Return a tensor whose last axis is contiguous, as kernels read it."""
    return x if x is None or x.stride(-1) == 1 else x.contiguous()


def with_equal_strides(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return two tensors of one shape that share strides, the last one 1."""
    if x.stride() == y.stride() and x.stride(-1) == 1:
        return x, y
    return x.contiguous(), y.contiguous()
