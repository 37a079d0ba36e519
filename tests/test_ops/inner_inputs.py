"""Inputs of the bidirectional inner op, flat, so that each gets a gradient."""

from __future__ import annotations

from functools import partial

import torch

from mmscope.ops import DirectionWeights, bidirectional_inner


def inner_inputs(
    seqlen,
    batch=1,
    dim=5,
    d_state=3,
    dt_rank=2,
    width=4,
    dtype=torch.float32,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)
    draw = partial(torch.randn, generator=generator)

    def weights(prefix):
        values = DirectionWeights(
            conv_weight=draw(dim, width) / 2,
            conv_bias=draw(dim),
            x_proj=(draw(dt_rank + 2 * d_state, dim) / dim**0.5).to(dtype),
            dt_proj=(draw(dim, dt_rank) / dt_rank**0.5).to(dtype),
            dt_bias=draw(dim) - 2,
            A_log=torch.rand(dim, d_state, generator=generator).mul(4).log(),
            D=draw(dim),
        )
        return {prefix + k: v for k, v in values._asdict().items()}

    # As the input projection leaves them: two parts of one tensor.
    x, z = draw(batch, seqlen, 2 * dim).to(dtype).chunk(2, -1)
    return dict(x=x, z=z, **weights('f_'), **weights('b_'))


def run_inner(
    x,
    z,
    backend,
    score='max_norm',
    returns='y',
    directions=None,
    mask=None,
    gaps=None,
    **weights,
):
    """Run the op; return the output or the scores."""
    pair = [
        DirectionWeights(
            **{k[2:]: v for k, v in weights.items() if k.startswith(prefix)}
        )
        for prefix in ('f_', 'b_')
    ]
    y, scores = bidirectional_inner(
        *(x, z, *pair, score, backend),
        directions=directions,
        mask=mask,
        gaps=gaps,
    )
    return y if returns == 'y' else scores
