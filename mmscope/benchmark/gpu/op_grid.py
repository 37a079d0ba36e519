"""The operators against mamba-ssm's and against a copy of their bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from mmscope.benchmark.gpu.cases import CONV, MIXER, SCAN, ParityCase
from mmscope.benchmark.gpu.graphs import race_laps
from mmscope.benchmark.gpu.inputs import (
    TAPS,
    directions,
    draw_large,
    mixer,
    mixer_inputs,
)
from mmscope.benchmark.gpu.parity import TRITON, require_triton
from mmscope.benchmark.gpu.rival import (
    MODULE,
    channels_first_scan,
    rival_core,
    to_channels_first,
    why_no_rival,
)
from mmscope.benchmark.gpu.scale import Scale
from mmscope.benchmark.gpu.stand_in import stand_in
from mmscope.benchmark.gpu.steps import Step
from mmscope.benchmark.ops import COPY, copying, forward, training
from mmscope.ops import causal_conv1d, selective_scan
from mmscope.ops.reference import causal_conv1d_reference

FORWARD, TRAINING = 'forward', 'training'
PYTORCH = 'F.conv1d'
PASSES = {FORWARD: forward, TRAINING: training}
Function = Callable[..., Tensor]


def op_steps(scale: Scale) -> Iterator[Step]:
    """List the comparisons.

    Args:
        scale (Scale): Shapes and device.

    Yields:
        Step: One an operator, pass and shape.
    """
    for shape in scale.ops:
        sizes = ' x '.join(map(str, shape))
        for op, make in ((SCAN, _scans), (CONV, _convs), (MIXER, _mixers)):
            for run in PASSES:
                yield Step(
                    f'{op}, {run}, {sizes}',
                    partial(_compare, op, make, run, shape, scale),
                )


def _compare(
    op: str,
    make: Callable,
    run: str,
    shape: tuple[int, int, int, int],
    scale: Scale,
    left: float,
) -> list[dict]:
    require_triton(scale.device)
    absent = why_no_rival() if not scale.dry_run else None
    with stand_in(MODULE, scale.dry_run):
        rivals = make(shape, scale.device, absent is None)
        runs = {
            name: PASSES[run](function, inputs)
            for name, (function, inputs) in rivals.items()
        }
        if run == FORWARD and op != MIXER:
            runs[COPY] = copying(rivals[TRITON][1])
        found = race_laps(
            runs, scale.device, scale.repeats, min(left, 8.0 * scale.patience)
        )
    if absent and op != CONV:
        found[MODULE] = {'reason': absent}
    return [
        {
            **dict(op=op, run=run, rival=name),
            **dict(
                zip(('batch', 'seqlen', 'dim', 'd_state'), shape, strict=True)
            ),
            **values,
        }
        for name, values in found.items()
    ]


def _scans(
    shape: tuple[int, int, int, int], device: torch.device, with_rival: bool
) -> dict[str, tuple[Function, dict[str, Tensor]]]:
    inputs = draw_large(ParityCase(SCAN, *shape, dtype='bfloat16'), device)
    ours = partial(selective_scan, delta_softplus=True, backend=TRITON)
    found = {TRITON: (ours, inputs)}
    if with_rival:
        found[MODULE] = channels_first_scan, to_channels_first(inputs)
    return found


def _convs(
    shape: tuple[int, int, int, int], device: torch.device, with_rival: bool
) -> dict[str, tuple[Function, dict[str, Tensor]]]:
    case = ParityCase(CONV, *shape[:3], TAPS, dtype='bfloat16')
    inputs = draw_large(case, device)
    return {
        TRITON: (partial(causal_conv1d, backend=TRITON), inputs),
        PYTORCH: (causal_conv1d_reference, inputs),
    }


def _mixers(
    shape: tuple[int, int, int, int], device: torch.device, with_rival: bool
) -> dict[str, tuple[Function, dict[str, Tensor]]]:
    """Both directions of everything between a mixer's two projections."""
    case = ParityCase(MIXER, *shape, dtype='bfloat16')
    inputs = {k: x.to(device) for k, x in mixer_inputs(case).items()}

    def ours(**tensors: Tensor) -> Tensor:
        return mixer(**tensors, backend=TRITON)[0]

    def rival(x: Tensor, z: Tensor, **weights: Tensor) -> Tensor:
        return rival_core(x, z, *directions(weights))

    found = {TRITON: (ours, inputs)}
    if with_rival:
        first = {name: inputs[name].mT.contiguous() for name in ('x', 'z')}
        found[MODULE] = rival, inputs | first
    return found
