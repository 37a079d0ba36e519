"""The operators against mamba-ssm's and against a copy of their bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mmscope.benchmark.gpu.cases import CONV, MIXER, SCAN, ParityCase
from mmscope.benchmark.gpu.graphs import LapTime, race_laps
from mmscope.benchmark.gpu.inputs import (
    TAPS,
    both_parts,
    directions,
    draw_plain,
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
from mmscope.benchmark.gpu.scale import OpPlan, Scale
from mmscope.benchmark.gpu.stand_in import stand_in
from mmscope.benchmark.gpu.steps import Step
from mmscope.benchmark.ops import COPY, PASSES, Function, Inputs, copying
from mmscope.ops import causal_conv1d
from mmscope.ops.library import op as library_op
from mmscope.ops.reference import causal_conv1d_reference

# What a layer's scan is, with the order of its tensors.
SCAN_OP = 'bidirectional_scan_triton'
ORDER = ('u', 'delta', 'A', 'B', 'C', 'D', 'z', 'delta_bias')
PYTORCH = 'F.conv1d'
# Who computes an operator, by name: the function and its inputs.
Rivals = dict[str, tuple[Function, Inputs]]


@dataclass(kw_only=True)
class OpRow(LapTime):
    """What one who computes 'scan', 'conv' or 'mixer' takes.

    ``run`` is 'forward' or 'training', ``rival`` who: 'triton' is ours.
    ``scored`` scans give scores, too. Sizes are sequences, tokens, channels
    inside a mixer and states of a channel.
    """

    op: str
    run: str
    rival: str
    scored: bool
    batch: int
    seqlen: int
    dim: int
    d_state: int


def op_steps(scale: Scale) -> Iterator[Step]:
    """List the comparisons, one an operator, pass and shape."""
    for plan, op, run in _places(scale):
        sizes = ' x '.join(map(str, plan.sizes))
        scored = ', scored' if plan.scored else ''
        yield Step(
            f'{op}, {run}, {sizes}{scored}',
            partial(_compare, op, run, plan, scale),
        )


def kernel_runs(scale: Scale) -> Iterator[Callable[[], int]]:
    """List runs of the kernels of each comparison, a single one each.

    They return how many tensors they computed, 1.
    """
    for plan, op, run in _places(scale):
        yield partial(_run_kernels, op, run, plan, scale.device)


def _places(scale: Scale) -> Iterator[tuple[OpPlan, str, str]]:
    for plan in scale.ops:
        for op in (SCAN,) if plan.scored else MAKERS:
            for run in PASSES:
                yield plan, op, run


def _run_kernels(op: str, run: str, plan: OpPlan, device: torch.device) -> int:
    function, inputs = MAKERS[op](plan, device, False)[TRITON]
    PASSES[run](function, inputs)()
    return 1


def _compare(
    op: str,
    run: str,
    plan: OpPlan,
    scale: Scale,
    left: float,
) -> list[OpRow]:
    require_triton(scale.device)
    absent = why_no_rival() if not scale.dry_run else None
    with stand_in(MODULE, scale.dry_run):
        rivals = MAKERS[op](plan, scale.device, absent is None)
        runs = {
            name: PASSES[run](function, inputs)
            for name, (function, inputs) in rivals.items()
        }
        if run == 'forward' and op != MIXER:
            runs[COPY] = copying(_moved(op, rivals[TRITON][1]))
        found = race_laps(
            runs, scale.device, scale.repeats, min(left, 8.0 * scale.patience)
        )
    if absent and op != CONV:
        found[MODULE] = LapTime(reason=absent)
    return [
        OpRow(
            **vars(time),
            op=op,
            run=run,
            rival=name,
            scored=plan.scored,
            batch=plan.batch,
            seqlen=plan.seqlen,
            dim=plan.dim,
            d_state=plan.d_state,
        )
        for name, time in found.items()
    ]


def _moved(op: str, inputs: Inputs) -> Inputs:
    """Large tensors that an operator reads, and one as it writes."""
    if op == CONV:
        return inputs
    # u and delta of both directions, the gate and the output.
    (u, _), (delta, _), z = inputs['u'], inputs['delta'], inputs['z']
    return dict(u=u, delta=delta, u_b=u, delta_b=delta, z=z, out=z)


def _scans(plan: OpPlan, device: torch.device, with_rival: bool) -> Rivals:
    """Both directions of a layer's scan, their mean and the gate."""
    case = ParityCase(SCAN, *plan.sizes, dtype='bfloat16')
    ahead, back = draw_plain(case, device), draw_plain(case, device)
    inputs = {
        name: x if name == 'z' else torch.stack([x, back[name]])
        for name, x in ahead.items()
    }

    def ours(**tensors: Tensor) -> Tensor:
        scan = library_op(SCAN_OP)
        return scan(*(tensors[k] for k in ORDER), True, plan.scored, False)[0]

    found = {TRITON: (ours, inputs)}
    if with_rival:
        first = to_channels_first(ahead)
        second = to_channels_first(back | {'z': ahead['z']})
        second = {f'b_{name}': x for name, x in second.items()}
        found[MODULE] = _rival_scans, first | second
    return found


def _rival_scans(**tensors: Tensor) -> Tensor:
    """Two scans; the second one's inputs are taken to be flipped already."""
    ahead = {k: x for k, x in tensors.items() if not k.startswith('b_')}
    back = {k[2:]: x for k, x in tensors.items() if k.startswith('b_')}
    y = channels_first_scan(**ahead) + channels_first_scan(**back).flip(-1)
    return y * 0.5


def _convs(plan: OpPlan, device: torch.device, with_rival: bool) -> Rivals:
    case = ParityCase(CONV, *plan.sizes[:3], TAPS, dtype='bfloat16')
    inputs = draw_plain(case, device)
    return {
        TRITON: (partial(causal_conv1d, backend=TRITON), inputs),
        PYTORCH: (causal_conv1d_reference, inputs),
    }


def _mixers(plan: OpPlan, device: torch.device, with_rival: bool) -> Rivals:
    """Both directions of everything between a mixer's two projections.

    From ``xz``, as the first projection gives it, whose parts are no dense
    tensors: (batch, seqlen, 2 * dim), channels first for the rival.
    """
    case = ParityCase(MIXER, *plan.sizes, dtype='bfloat16')
    drawn = mixer_inputs(case, device)
    xz = both_parts(drawn)
    weights = {k: w for k, w in drawn.items() if k not in ('x', 'z')}

    def ours(xz: Tensor, **weights: Tensor) -> Tensor:
        return mixer(*xz.chunk(2, -1), backend=TRITON, **weights)[0]

    def rival(xz: Tensor, **weights: Tensor) -> Tensor:
        return rival_core(*xz.chunk(2, 1), *directions(weights))

    found = {TRITON: (ours, weights | {'xz': xz})}
    if with_rival:
        found[MODULE] = rival, weights | {'xz': xz.mT.contiguous()}
    return found


MAKERS = {SCAN: _scans, CONV: _convs, MIXER: _mixers}
