"""Both directions of a bidirectional mixer, from convolution to gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_inner_inputs
from .direction import DirectionWeights
from .dispatch import resolve_scan
from .functional import causal_conv1d, selective_scan
from .fused_cpu import can_fuse, fused_inner
from .library import CONV_BACKENDS, op

SCORES = ('max_norm',)
Score = Callable[[Tensor], Tensor]

_composing = False


@contextmanager
def composed() -> Iterator[None]:
    """Run each part of a mixer by itself, whatever the backend can fuse.

    For those who count operators. It holds for all threads.

    Yields:
        None: :func:`bidirectional_inner` is composed meanwhile.
    """
    global _composing
    before, _composing = _composing, True
    try:
        yield
    finally:
        _composing = before


def bidirectional_inner(
    x: Tensor,
    z: Tensor,
    forward: DirectionWeights,
    backward: DirectionWeights,
    score: Score | str | None = None,
    backend: str = 'auto',
) -> tuple[Tensor, Tensor | None]:
    """Run everything between a bidirectional mixer's two projections.

    ViM (arXiv:2401.09417), Algorithm 1: in each direction a causal
    convolution with SiLU, the selection of step size, B and C from its output,
    the scan; then ``(y_f + y_b) / 2 * silu(z)``.

    The step size, B and C are matrix products of the convolution's output, so
    convolution and scan cannot be one kernel without a product inside it.
    The 'triton' backend therefore has one kernel on either side: both
    convolutions in one launch (x is read once), the products of both
    directions as two batched ones, then softplus, both scans, their mean, the
    gate and the score in one launch. The 'cpu' backend, where nobody wants a
    gradient, has the products inside its kernels and runs all of this for one
    batch item at a time, which stays in the cache. The rest is composed of
    :func:`causal_conv1d` and :func:`selective_scan`.

    Args:
        x (Tensor): Input of both convolutions, (batch, seqlen, dim).
        z (Tensor): Gate, (batch, seqlen, dim).
        forward (DirectionWeights): Weights of the forward direction.
        backward (DirectionWeights): Weights of the backward direction.
        score (Callable | str | None): 'max_norm' (paper, Eq. 11: the largest
            softplus of a token's ungated output, without a gradient) or a
            function from one direction's ungated output (batch, seqlen, dim)
            to scores (batch, seqlen); a function needs that output in memory,
            so it composes. Defaults to None.
        backend (str): See :func:`selective_scan`. Defaults to 'auto'.

    Returns:
        tuple[Tensor, Tensor | None]: Gated output (batch, seqlen, dim) in the
        dtype of ``x``, and the mean of the two directions' scores (batch,
        seqlen), None without ``score``.

    Raises:
        RuntimeError: If an explicit backend cannot run.
        ValueError: If shapes, dtypes or devices do not fit, or a name is
            unknown.
    """
    if not callable(score) and score not in (None, *SCORES):
        raise ValueError(
            f'score must be one of {SCORES}, a function or None, got {score!r}'
        )
    check_inner_inputs(x, z, forward, backward)
    name = resolve_scan(backend, x)
    alone = callable(score) or _composing
    if not alone and name == 'triton':
        fused = _fused_triton
    elif not alone and can_fuse(name, x, z, *forward, *backward):
        fused = fused_inner
    else:
        return _composed(x, z, forward, backward, score, backend)
    y, largest = fused(x, z, forward, backward, score is not None)
    return y, F.softplus(largest).mean(0) if score else None


def _max_norm(y: Tensor) -> Tensor:
    # softplus is monotone: the largest softplus is that of the largest y.
    largest = y.detach().amax(-1)
    exact = torch.promote_types(y.dtype, torch.float32)
    return F.softplus(largest.to(exact))


def _select(
    x: Tensor, weights: DirectionWeights, reverse: bool, backend: str
) -> dict[str, Tensor]:
    has_conv = backend in ('reference', *CONV_BACKENDS)
    u = causal_conv1d(
        x,
        weights.conv_weight,
        weights.conv_bias,
        reverse=reverse,
        # mamba-ssm's scan comes without a convolution of this layout.
        backend=backend if has_conv else 'auto',
    )
    dt, B, C = F.linear(u, weights.x_proj).split(_parts(weights), -1)
    delta = F.linear(dt, weights.dt_proj)
    return dict(
        u=u,
        delta=delta,
        A=_decay(weights.A_log),
        B=B,
        C=C,
        D=weights.D,
        delta_bias=weights.dt_bias,
    )


def _decay(a_log: Tensor) -> Tensor:
    return -a_log.to(torch.promote_types(a_log.dtype, torch.float32)).exp()


def _parts(weights: DirectionWeights) -> list[int]:
    d_state = weights.A_log.shape[1]
    return [weights.dt_proj.shape[1], d_state, d_state]


def _composed(
    x: Tensor,
    z: Tensor,
    forward: DirectionWeights,
    backward: DirectionWeights,
    score: Score | str | None,
    backend: str,
) -> tuple[Tensor, Tensor | None]:
    y_f, y_b = (
        selective_scan(
            **_select(x, weights, reverse, backend),
            delta_softplus=True,
            reverse=reverse,
            backend=backend,
        )
        for weights, reverse in ((forward, False), (backward, True))
    )
    # Both directions share the gate: (y_f g + y_b g) / 2.
    y = (y_f + y_b) * (F.silu(z) * 0.5)
    if score is None:
        return y, None
    score = score if callable(score) else _max_norm
    return y, (score(y_f) + score(y_b)) / 2


def _fused_triton(
    x: Tensor,
    z: Tensor,
    forward: DirectionWeights,
    backward: DirectionWeights,
    scored: bool,
) -> tuple[Tensor, Tensor]:
    weights = DirectionWeights(
        *(torch.stack(pair) for pair in zip(forward, backward, strict=True))
    )
    exact = (
        weights.conv_weight,
        weights.conv_bias,
        _decay(weights.A_log),
        weights.D,
        weights.dt_bias,
    )
    taps, conv_bias, A, D, dt_bias = (i.float() for i in exact)
    u = op('bidirectional_conv1d_triton')(x, taps, conv_bias, True)
    tokens = u.flatten(1, 2)
    selected = torch.bmm(tokens, weights.x_proj.mT)
    dt, B, C = selected.split(_parts(forward), -1)
    delta = torch.bmm(dt, weights.dt_proj.mT)
    delta, B, C = (
        i.to(u.dtype).unflatten(1, x.shape[:2]) for i in (delta, B, C)
    )
    y, largest, _ = op('bidirectional_scan_triton')(
        u, delta, A, B, C, D, z.to(u.dtype), dt_bias, True, scored, False
    )
    return y, largest
