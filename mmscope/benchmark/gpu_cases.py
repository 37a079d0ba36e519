"""The scans and convolutions whose kernels are compiled and predicted."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from itertools import product
from multiprocessing import get_context
from typing import NamedTuple

import torch
from torch import Tensor

from mmscope.benchmark.gpu_disassembly import CHUNK
from mmscope.benchmark.gpu_kernels import (
    Launch,
    count,
    record_of,
    unique,
)
from mmscope.benchmark.gpu_predictions import (
    BATCHES,
    LENGTHS,
    Kernel,
    Side,
    Work,
    case_name,
)

# ViM-S (arXiv:2401.09417): d_inner 768, d_state 16, dt_rank 24. MambaScope-S
# has the same mixers; each also scores its tokens.
DIM, D_STATE, DT_RANK, CONV_WIDTH = 768, 16, 24, 4
FORWARD, TRAINING = 'forward', 'training'
# True of every launch of a model.
COMMON_FLAGS = ('HAS_BIAS', 'SOFTPLUS', 'HAS_D', 'EVEN', 'PACKED')


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device='meta')


def scan_launches(
    batch: int,
    seqlen: int,
    *,
    dtype: torch.dtype = torch.bfloat16,
    directions: int = 2,
    scored: bool = False,
    training: bool = False,
    gated: bool = True,
) -> list[Launch]:
    """Record the launches of one scan, as a mixer of ViM calls it.

    Where it is in ``training``, states are saved and the backward follows.
    """
    sizes = directions, batch, seqlen
    u = _empty(*sizes, DIM, dtype=dtype)
    # As x_proj writes them: behind the step size's rank.
    selected = _empty(*sizes, DT_RANK + 2 * D_STATE, dtype=dtype)
    _, B, C = selected.split((DT_RANK, D_STATE, D_STATE), -1)
    z = _empty(batch, seqlen, 2 * DIM, dtype=dtype)[..., DIM:]
    row = _empty(directions, DIM)
    A = _empty(directions, DIM, D_STATE)
    scan = u, u, A, B, C, row, z if gated else None, row, True, False
    return record_of(partial(_run_scan, scan, scored, training))


def _run_scan(scan: tuple, scored: bool, training: bool) -> None:
    from mmscope.ops import triton_kernels as kernels

    inputs = kernels.ScanInputs(*scan)
    if inputs.directions == 1:
        _, states = kernels.scan_forward(inputs, training)
    else:
        *_, states = kernels.both_directions_forward(inputs, scored, training)
    if training:
        grad = torch.empty_like(inputs.u[0])
        kernels.scan_backward(inputs, grad, states)


def conv_launches(
    batch: int,
    seqlen: int,
    *,
    dtype: torch.dtype = torch.bfloat16,
    directions: int = 2,
) -> list[Launch]:
    """Record the launches of a convolution and its backward."""
    x = _empty(batch, seqlen, 2 * DIM, dtype=dtype)[..., :DIM]
    weight = _empty(directions, DIM, CONV_WIDTH)
    bias = _empty(directions, DIM)
    return record_of(partial(_run_conv, x, weight, bias))


def _run_conv(x: Tensor, weight: Tensor, bias: Tensor) -> None:
    from mmscope.ops import triton_kernels as kernels

    out = kernels.conv_forward(x, weight, bias, True, False)
    kernels.conv_backward(out, x, weight, bias, True, False)


class Variants(NamedTuple):
    """Which dtypes of the sequences and numbers of directions are wanted."""

    dtypes: tuple[torch.dtype, ...] = (torch.bfloat16, torch.float32)
    directions: tuple[int, ...] = (2, 1)


ALL_VARIANTS = Variants()


def all_launches(wanted: Variants = ALL_VARIANTS) -> list[Launch]:
    """Record every kernel with every set of constants for ViM-S.

    Whole and cut sequences, every width of a program, with and without gate,
    score, saved states and backward.
    """
    found = []
    for dtype, directions in product(wanted.dtypes, wanted.directions):
        scan = partial(scan_launches, dtype=dtype, directions=directions)
        found += conv_launches(2, 197, dtype=dtype, directions=directions)
        if directions == 1:
            found += scan(64, 197)
            found += scan(64, 197, training=True, gated=False)
            continue
        # Batches and lengths that plan_scan answers differently.
        for batch, seqlen in ((256, 197), (64, 197), (1, 197), (1, 4097)):
            found += scan(batch, seqlen)
        found += scan(64, 197, scored=True)
        for batch, seqlen in ((64, 197), (1, 1025), (8, 1025)):
            found += scan(batch, seqlen, training=True)
    return found


def count_all(
    wanted: Mapping[int, Variants], workers: int
) -> list[tuple[Launch, Kernel]]:
    """Compile and count all of :func:`all_launches` in some processes.

    What is wanted stands by compute capability, such as 80.
    """
    tasks = [(c, x, key) for c, x in wanted.items() for key in _launches(x)]
    with ProcessPoolExecutor(workers, get_context('spawn')) as pool:
        found = list(pool.map(_count_one, tasks, chunksize=4))
    return [
        (_launches(variants)[key], x)
        for (_, variants, key), x in zip(tasks, found, strict=True)
    ]


@cache
def _launches(wanted: Variants) -> dict[str, Launch]:
    return unique(all_launches(wanted))


def _count_one(task: tuple[int, Variants, str]) -> Kernel:
    # A launch holds what no process can send another: it is recorded again.
    capability, variants, key = task
    return count(_launches(variants)[key], capability)


def case_counts(commit: str, capability: int = 90) -> Side:
    """Compile and count what :func:`gpu_predictions.predict` needs."""
    kernels, cases, plans = {}, {}, {}
    for scored in (False, True):
        for part in (FORWARD,) if scored else (FORWARD, TRAINING):
            for batch, seqlen in product(BATCHES, LENGTHS):
                launches = scan_launches(
                    batch, seqlen, scored=scored, training=part == TRAINING
                )
                name = case_name(part, scored, batch, seqlen)
                cases[name] = [_work(x, seqlen) for x in launches]
                plans[name] = _plan(launches)
                kernels |= unique(launches)
    names = {
        key: f'{x.name} {i}' for i, (key, x) in enumerate(kernels.items())
    }
    for work in (work for works in cases.values() for work in works):
        work.kernel = names[work.kernel]
    counted = {
        names[key]: _counted(x, capability) for key, x in kernels.items()
    }
    return Side(commit, counted, cases, plans)


def _counted(launch: Launch, capability: int) -> Kernel:
    flags = [
        name
        for name, value in launch.constants.items()
        if value is True and name not in COMMON_FLAGS
    ]
    return replace(count(launch, capability), flags=' '.join(sorted(flags)))


def _plan(launches: list[Launch]) -> str:
    scan = next(x for x in launches if x.name == 'scan_kernel')
    return f'{scan.constants["CHANNELS"]} channels, {scan.grid[2]} spans'


def _work(launch: Launch, seqlen: int) -> Work:
    names = inspect.signature(launch.kernel.fn).parameters
    sizes = {
        name: x.numel() * x.element_size()
        for name, x in zip(names, launch.args, strict=False)
        if isinstance(x, Tensor)
    }
    if launch.constants.get('ADDS'):
        sizes['other'] = sizes['out']  # written by one, read by the other
    if launch.name == 'span_kernel':
        unused = ('u', 'B') if 'grad' in sizes else ('C', 'z')
        sizes |= dict.fromkeys(unused, 0)
    programs = math.prod(launch.grid)
    spans = launch.grid[2] if len(launch.grid) > 2 else 1
    tokens = math.ceil(seqlen / spans)
    tile = sizes.pop('scratch', 0) // CHUNK
    return Work(
        kernel=launch.key,
        programs=programs,
        tokens=tokens,
        bytes=sum(sizes.values()),
        scratch=2 * tile * tokens,
    )
