"""Every kernel for GPUs with every set of constants, compiled and counted."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from multiprocessing import get_context
from typing import NamedTuple

import torch

from mmscope.benchmark.counted.cases import (
    DIM,
    empty,
    scan_arguments,
    scan_launches,
)
from mmscope.benchmark.counted.disassembly import run_tool
from mmscope.benchmark.counted.kernels import Launch, count, recorded, unique
from mmscope.benchmark.counted.predictions import Kernel

CONV_WIDTH = 4


def why_unknown(capability: int) -> str | None:
    """Say why Triton's assembler makes no code for a GPU; None if it does."""
    from triton import knobs

    newest = capability >= 100 and hasattr(knobs.nvidia, 'ptxas_blackwell')
    tool = 'ptxas_blackwell' if newest else 'ptxas'
    name = f'sm_{capability}'
    if f"'{name}'" in run_tool(tool, '--help'):
        return None
    return f'the {tool} of this Triton does not know {name}'


class Variants(NamedTuple):
    """Which dtypes of the sequences and numbers of directions are wanted."""

    dtypes: tuple[torch.dtype, ...] = (torch.bfloat16, torch.float32)
    directions: tuple[int, ...] = (2, 1)


ALL_VARIANTS = Variants()


def conv_launches(dtype: torch.dtype, directions: int) -> list[Launch]:
    """Record the launches of a convolution and its backward."""
    from mmscope.ops import triton_kernels as kernels

    x = empty(2, 197, 2 * DIM, dtype=dtype)[..., :DIM]
    weight, bias = empty(directions, DIM, CONV_WIDTH), empty(directions, DIM)
    with recorded() as launches:
        out = kernels.conv_forward(x, weight, bias, True, False)
        kernels.conv_backward(out, x, weight, bias, True, False)
    return launches


def one_direction(dtype: torch.dtype) -> list[Launch]:
    """Record a gated scan, and an ungated one with its backward."""
    from mmscope.ops import triton_kernels as kernels

    *before, z, bias, softplus, reverse = scan_arguments(64, 197, dtype, 1)
    with recorded() as launches:
        for gate, training in ((z, False), (None, True)):
            inputs = kernels.ScanInputs(*before, gate, bias, softplus, reverse)
            _, states = kernels.scan_forward(inputs, training)
        kernels.scan_backward(inputs, torch.empty_like(inputs.u[0]), states)
    return launches


def both_directions(dtype: torch.dtype) -> list[Launch]:
    """Record whole and cut sequences, and every width of a program."""
    found = []
    # Batches and lengths that plan_scan answers differently.
    for size in ((256, 197), (64, 197), (1, 197), (1, 4097)):
        found += scan_launches(scan_arguments(*size, dtype))
    found += scan_launches(scan_arguments(64, 197, dtype), scored=True)
    for size in ((64, 197), (1, 1025), (8, 1025)):
        found += scan_launches(scan_arguments(*size, dtype), training=True)
    return found


@cache
def launches_of(wanted: Variants) -> dict[str, Launch]:
    """Record every kernel with every set of constants for ViM-S, by key."""
    found = []
    for dtype, directions in product(*wanted):
        found += conv_launches(dtype, directions)
        scans = one_direction if directions == 1 else both_directions
        found += scans(dtype)
    return unique(found)


def count_all(
    wanted: Mapping[int, Variants], workers: int
) -> list[tuple[Launch, Kernel]]:
    """Compile and count all that is wanted in some processes.

    What is wanted stands by compute capability, such as 80.
    """
    tasks = [(c, x, key) for c, x in wanted.items() for key in launches_of(x)]
    with ProcessPoolExecutor(workers, get_context('spawn')) as pool:
        found = list(pool.map(_count_one, tasks, chunksize=4))
    return [
        (launches_of(variants)[key], x)
        for (_, variants, key), x in zip(tasks, found, strict=True)
    ]


def _count_one(task: tuple[int, Variants, str]) -> Kernel:
    # A launch holds what no process can send another: it is recorded again.
    capability, variants, key = task
    return count(launches_of(variants)[key], capability)
