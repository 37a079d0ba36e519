"""The scans whose kernels are compiled and predicted."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from mmscope.benchmark.counted.disassembly import CHUNK
from mmscope.benchmark.counted.kernels import Launch, count, recorded, unique
from mmscope.benchmark.counted.predictions import (
    BATCHES,
    LENGTHS,
    Counts,
    Kernel,
    Work,
    case_name,
)

# ViM-S (arXiv:2401.09417): d_inner 768, d_state 16, dt_rank 24. MambaScope-S
# has the same mixers; each also scores its tokens.
DIM, D_STATE, DT_RANK = 768, 16, 24
CAPABILITY = 90
FORWARD, TRAINING = 'forward', 'training'
# True of every launch of a model.
COMMON_FLAGS = ('HAS_BIAS', 'SOFTPLUS', 'HAS_D', 'EVEN', 'PACKED')


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Make a tensor that has a shape, and no memory."""
    return torch.empty(shape, dtype=dtype, device='meta')


def scan_arguments(
    batch: int,
    seqlen: int,
    dtype: torch.dtype = torch.bfloat16,
    directions: int = 2,
) -> tuple:
    """Make what ``ScanInputs`` takes of one scan, as a mixer of ViM does."""
    sizes = directions, batch, seqlen
    u = empty(*sizes, DIM, dtype=dtype)
    # As x_proj writes them: behind the step size's rank.
    selected = empty(*sizes, DT_RANK + 2 * D_STATE, dtype=dtype)
    _, B, C = selected.split((DT_RANK, D_STATE, D_STATE), -1)
    z = empty(batch, seqlen, 2 * DIM, dtype=dtype)[..., DIM:]
    row = empty(directions, DIM)
    A = empty(directions, DIM, D_STATE)
    return u, u, A, B, C, row, z, row, True, False


def scan_launches(
    arguments: tuple, scored: bool = False, training: bool = False
) -> list[Launch]:
    """Record the launches of one scan in both directions.

    Where it is in ``training``, states are saved and the backward follows.
    """
    from mmscope.ops import triton_kernels as kernels

    inputs = kernels.ScanInputs(*arguments)
    with recorded() as launches:
        *_, states = kernels.both_directions_forward(inputs, scored, training)
        if training:
            grad = torch.empty_like(inputs.u[0])
            kernels.scan_backward(inputs, grad, states)
    return launches


def case_counts(commit: str) -> Counts:
    """Compile and count what :func:`predictions.predict` needs."""
    kernels, cases, plans = {}, {}, {}
    for scored in (False, True):
        for part in (FORWARD,) if scored else (FORWARD, TRAINING):
            for batch, seqlen in product(BATCHES, LENGTHS):
                arguments = scan_arguments(batch, seqlen)
                launches = scan_launches(arguments, scored, part == TRAINING)
                name = case_name(part, scored, batch, seqlen)
                cases[name] = [_work(x, seqlen) for x in launches]
                plans[name] = _plan(launches)
                kernels |= unique(launches)
    names = {
        key: f'{x.name} {i}' for i, (key, x) in enumerate(kernels.items())
    }
    for work in (work for works in cases.values() for work in works):
        work.kernel = names[work.kernel]
    counted = {names[key]: _counted(x) for key, x in kernels.items()}
    return Counts(DIM, D_STATE, commit, counted, cases, plans)


def _counted(launch: Launch) -> Kernel:
    flags = [
        name
        for name, value in launch.constants.items()
        if value is True and name not in COMMON_FLAGS
    ]
    return replace(count(launch, CAPABILITY), flags=' '.join(sorted(flags)))


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
