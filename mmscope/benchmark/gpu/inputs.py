"""Random inputs of the kernels, laid out as models and careless callers do."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from mmscope.benchmark.gpu.cases import (
    CONV,
    MIXER,
    PARTS,
    TRANSPOSED,
    ParityCase,
)
from mmscope.ops import DirectionWeights, bidirectional_inner
from mmscope.testing import conv_inputs, draw_options, scan_inputs

CPU = torch.device('cpu')
RANK_SHARE = 32
TAPS = 4
# Every step size that softplus could stumble over.
EXTREMES = (-1e4, -90.0, -20.0, 0.0, 20.0, 90.0, 1e4, 1.0)


def draw_inputs(case: ParityCase, device: torch.device) -> dict[str, Tensor]:
    """Draw all inputs of a case, by the names of the operator's arguments."""
    if case.op == MIXER:
        inputs = mixer_inputs(case)
    elif case.op == CONV:
        inputs = draw_plain(case)
    else:
        inputs = _scan(case)
    given = {k: v for k, v in inputs.items() if k not in case.absent}
    moved = {name: x.to(device) for name, x in given.items()}
    if case.op == MIXER:
        # A part that is moved to another device becomes dense.
        moved['x'], moved['z'] = both_parts(moved).chunk(2, -1)
    return _laid_out(moved, case)


def draw_plain(
    case: ParityCase, device: torch.device = CPU
) -> dict[str, Tensor]:
    """Draw the inputs of a scan or convolution on the device, by name.

    On the CPU the largest would take a minute.
    """
    draw = conv_inputs if case.op == CONV else scan_inputs
    sizes = case.batch, case.seqlen, case.dim, case.d_state
    return draw(*sizes, case.torch_dtype, case.seed, device)


def both_parts(inputs: dict[str, Tensor]) -> Tensor:
    """Join a mixer's ``x`` and ``z`` to (batch, seqlen, 2 * dim)."""
    return torch.cat([inputs['x'], inputs['z']], -1)


def _scan(case: ParityCase) -> dict[str, Tensor]:
    inputs = draw_plain(case)
    shape = inputs['delta'].shape
    if case.steps == 'extreme':
        steps = torch.tensor(EXTREMES)
        steps = steps.repeat(-(-case.seqlen // len(steps)))[: case.seqlen]
        inputs['delta'] = steps[None, :, None].expand(shape).contiguous()
    if case.steps == 'small':
        # softplus(-12) = 6e-6: log(1 + x) in float32 has 2 of its digits.
        inputs['delta'] = inputs['delta'] * 0.1 - 12
        inputs['delta_bias'] = inputs['delta_bias'] * 0.1
    if not case.softplus:
        for name in ('delta', 'delta_bias'):
            inputs[name] = inputs[name].abs()
    return inputs


def _laid_out(inputs: dict[str, Tensor], case: ParityCase) -> dict:
    if case.layout == PARTS:
        return {
            name: torch.cat([x, x], -1)[..., : x.shape[-1]]
            if x.ndim == 3
            else x
            for name, x in inputs.items()
        }
    if case.layout == TRANSPOSED:
        return {
            name: x.mT.contiguous().mT if x.ndim > 1 else x
            for name, x in inputs.items()
        }
    return inputs


def mixer_inputs(
    case: ParityCase, device: torch.device = CPU
) -> dict[str, Tensor]:
    """Draw what stands between a mixer's two projections, on the device.

    ``x`` and ``z``, (batch, seqlen, dim), are two parts of one tensor; each
    direction's weights are prefixed 'f_' and 'b_'.
    """
    options = draw_options(case.seed, device)
    draw = partial(torch.randn, **options)
    dim, d_state, dtype = case.dim, case.d_state, case.torch_dtype
    rank = max(dim // RANK_SHARE, 2)

    def weights(prefix: str) -> dict[str, Tensor]:
        decay = torch.rand(dim, d_state, **options) * 4
        values = DirectionWeights(
            conv_weight=draw(dim, TAPS) / 2,
            conv_bias=draw(dim),
            x_proj=(draw(rank + 2 * d_state, dim) / dim**0.5).to(dtype),
            dt_proj=(draw(dim, rank) / rank**0.5).to(dtype),
            dt_bias=draw(dim) - 2,
            A_log=decay.log(),
            D=draw(dim),
        )
        return {prefix + k: v for k, v in values._asdict().items()}

    x, z = draw(case.batch, case.seqlen, 2 * dim).to(dtype).chunk(2, -1)
    return dict(x=x, z=z, **weights('f_'), **weights('b_'))


def mixer(
    x: Tensor,
    z: Tensor,
    backend: str,
    scored: bool = False,
    **weights: Tensor,
) -> tuple[Tensor, Tensor | None]:
    """Run everything between a mixer's two projections.

    From ``x`` and ``z``, (batch, seqlen, dim), and weights as
    :func:`mixer_inputs` names them to the output (batch, seqlen, dim) and,
    where they are wanted, scores (batch, seqlen).
    """
    score = 'max_norm' if scored else None
    both = directions(weights)
    return bidirectional_inner(x, z, *both, score, backend)


def directions(weights: dict[str, Tensor]) -> list[DirectionWeights]:
    """Sort a mixer's weights into those of both directions."""
    return [
        DirectionWeights(
            **{k[2:]: v for k, v in weights.items() if k.startswith(prefix)}
        )
        for prefix in ('f_', 'b_')
    ]
