"""Both directions of a bidirectional mixer, from convolution to gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_gaps, check_inner_inputs
from .direction import Direction, DirectionWeights, decay_rates
from .dispatch import resolve_scan
from .functional import selective_scan
from .fused_cpu import can_fuse, fused_inner
from .library import op
from .precision import at_least_float32

SCORES = ('max_norm',)
Score = Callable[[Tensor, Tensor, Tensor], Tensor]

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
    forward: Direction,
    backward: Direction,
    score: Score | str | None = None,
    backend: str = 'auto',
    *,
    directions: Tensor | None = None,
    mask: Tensor | None = None,
    gaps: Tensor | None = None,
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
        forward (DirectionWeights | DirectionModules): The forward direction;
            modules compose.
        backward (DirectionWeights | DirectionModules): The backward one.
        score (Callable | str | None): 'max_norm' (paper, Eq. 11: the largest
            softplus of a token's ungated output, mean of the directions,
            without a gradient) or a function of both ungated outputs and the
            gate, (batch, seqlen, dim) each, to scores (batch, seqlen); a
            function needs them in memory, so it composes. Defaults to None.
        backend (str): See :func:`selective_scan`. Defaults to 'auto'.
        directions (Tensor | None): (batch, 2), forward and backward. bool: a
            direction that is False is not computed for that image and counts
            as zero. float: a factor on its output. Defaults to None.
        mask (Tensor | None): Factor on input and output of the convolutions,
            (batch, seqlen, 1). Defaults to None.
        gaps (Tensor | None): Idle steps before each token as the forward
            and as the backward scan meet it, (2, batch, seqlen), see
            :func:`selective_scan`. Defaults to None.

    Returns:
        tuple[Tensor, Tensor | None]: Gated output (batch, seqlen, dim) in the
        dtype of ``x``, and the scores (batch, seqlen), None without
        ``score``.

    Raises:
        RuntimeError: If an explicit backend cannot run.
        ValueError: If shapes, dtypes or devices do not fit, or a name is
            unknown.
    """
    if not callable(score) and score not in (None, *SCORES):
        raise ValueError(
            f'score must be one of {SCORES}, a function or None, got {score!r}'
        )
    fixed = None
    if isinstance(forward, DirectionWeights) and isinstance(
        backward, DirectionWeights
    ):
        fixed = (forward, backward)
        check_inner_inputs(x, z, *fixed)
    if directions is not None and _all_run(directions):
        directions = None
    if mask is not None:
        mask = mask.to(x.dtype)
    if gaps is not None:
        shape = (2, *x.shape[:2])
        check_gaps('bidirectional_inner', 'x', x, gaps, shape)
    name = resolve_scan(backend, x)
    extras = (directions, mask, gaps)
    plain = all(extra is None for extra in extras)
    if fixed and plain and not callable(score) and not _composing:
        fused = _fused_triton if name == 'triton' else fused_inner
        if name == 'triton' or can_fuse(name, x, z, *forward, *backward):
            y, largest = fused(x, z, *fixed, score is not None)
            return y, F.softplus(largest).mean(0) if score else None
    y_f, y_b = _both(x, (forward, backward), backend, *extras)
    # Both directions share the gate: (y_f g + y_b g) / 2.
    y = (y_f + y_b) * (F.silu(z) * 0.5)
    return y, _scored(score, y_f, y_b, z)


def _all_run(directions: Tensor) -> bool:
    return directions.dtype == torch.bool and bool(directions.all())


def _scored(
    score: Score | str | None, y_f: Tensor, y_b: Tensor, z: Tensor
) -> Tensor | None:
    if score is None:
        return None
    if callable(score):
        return score(y_f, y_b, z)
    return (_max_norm(y_f) + _max_norm(y_b)) / 2


def _max_norm(y: Tensor) -> Tensor:
    # softplus is monotone: the largest softplus is that of the largest y.
    return F.softplus(at_least_float32(y.detach().amax(-1)))


def _both(
    x: Tensor,
    pair: tuple[Direction, Direction],
    backend: str,
    directions: Tensor | None,
    mask: Tensor | None,
    gaps: Tensor | None,
) -> list[Tensor]:
    found = []
    for place, direction in enumerate(pair):
        options = dict(mask=mask, gaps=None if gaps is None else gaps[place])
        run: Callable[..., Tensor] = partial(
            scan_direction,
            direction=direction,
            reverse=place == 1,
            backend=backend,
        )
        if directions is None:
            found.append(run(x, **options))
        elif directions.is_floating_point():
            y = run(x, **options)
            found.append(y * directions[:, place].to(y.dtype).view(-1, 1, 1))
        else:
            found.append(_of_some(run, x, directions[:, place], options))
    return found


def _of_some(
    run: Callable[..., Tensor],
    x: Tensor,
    chosen: Tensor,
    options: dict[str, Tensor | None],
) -> Tensor:
    """Compute chosen images, (batch,) bool, and leave zeros elsewhere."""
    if bool(chosen.all()):
        return run(x, **options)
    y = torch.zeros_like(x)
    rows = chosen.nonzero()[:, 0]
    if not len(rows):
        return y
    some = run(
        x[rows], **{k: v if v is None else v[rows] for k, v in options.items()}
    )
    return y.to(some.dtype).index_copy(0, rows, some)


def scan_direction(
    x: Tensor,
    direction: Direction,
    reverse: bool,
    backend: str = 'auto',
    mask: Tensor | None = None,
    gaps: Tensor | None = None,
) -> Tensor:
    """Run one direction: convolution, selection, scan.

    Args:
        x (Tensor): (batch, seqlen, dim).
        direction (DirectionWeights | DirectionModules): Its parts.
        reverse (bool): From the last token to the first.
        backend (str): See :func:`selective_scan`. Defaults to 'auto'.
        mask (Tensor | None): See :func:`bidirectional_inner`. Defaults to
            None.
        gaps (Tensor | None): Of this direction, (batch, seqlen), see
            :func:`selective_scan`. Defaults to None.

    Returns:
        Tensor: Ungated output, (batch, seqlen, dim).
    """
    if mask is not None:
        x = x * mask
    u = direction.convolve(x, reverse, backend)
    if mask is not None:
        u = u * mask
    d_state = direction.A_log.shape[1]
    selected = direction.select(u)
    rank = selected.shape[-1] - 2 * d_state
    dt, B, C = selected.split([rank, d_state, d_state], -1)
    step = direction.step if gaps is None else direction.biased_step
    delta, bias = step(dt)
    return selective_scan(
        u,
        delta,
        decay_rates(direction.A_log),
        B,
        C,
        direction.D,
        delta_bias=bias,
        delta_softplus=True,
        reverse=reverse,
        backend=backend,
        gaps=gaps,
    )


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
        decay_rates(weights.A_log),
        weights.D,
        weights.dt_bias,
    )
    taps, conv_bias, A, D, dt_bias = (i.float() for i in exact)
    u = op('bidirectional_conv1d_triton')(x, taps, conv_bias, True)
    tokens = u.flatten(1, 2)
    selected = torch.bmm(tokens, weights.x_proj.mT)
    rank, d_state = forward.dt_proj.shape[1], forward.A_log.shape[1]
    dt, B, C = selected.split([rank, d_state, d_state], -1)
    delta = torch.bmm(dt, weights.dt_proj.mT)
    delta, B, C = (
        i.to(u.dtype).unflatten(1, x.shape[:2]) for i in (delta, B, C)
    )
    y, largest, _ = op('bidirectional_scan_triton')(
        u, delta, A, B, C, D, z.to(u.dtype), dt_bias, True, scored, False
    )
    return y, largest
