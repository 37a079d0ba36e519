"""Checks of the operators' inputs: what came, what is wanted, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .direction import DirectionWeights

ACTIVATIONS = ('silu', None)
# The weights that choose width, rank and number of states.
_MATRICES = dict(
    conv_weight='(dim, width)',
    dt_proj='(dim, dt_rank)',
    A_log='(dim, d_state)',
)


def check_scan_inputs(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    gaps: Tensor | None = None,
) -> None:
    """Refuse inputs of the selective scan that do not fit together.

    Args:
        u (Tensor): Input sequence, (batch, seqlen, dim).
        delta (Tensor): Step sizes, (batch, seqlen, dim).
        A (Tensor): Decay rates, (dim, d_state).
        B (Tensor): Input maps, (batch, seqlen, d_state).
        C (Tensor): Output maps, (batch, seqlen, d_state).
        D (Tensor, optional): Skip weights, (dim,).
        z (Tensor, optional): Gate, (batch, seqlen, dim).
        delta_bias (Tensor, optional): Bias of the step sizes, (dim,).
        gaps (Tensor, optional): Idle steps, (batch, seqlen).

    Raises:
        ValueError: If a shape, a dtype or a device does not fit.
    """
    _check_dims('selective_scan', 'u', u, '(batch, seqlen, dim)', 3)
    _check_dims('selective_scan', 'A', A, '(dim, d_state)', 2)
    for name, needed in dict(delta=delta, B=B, C=C).items():
        _check_tensor('selective_scan', name, needed)
    batch, seqlen, dim = u.shape
    d_state = A.shape[1]
    wanted = dict(
        delta=(delta, (batch, seqlen, dim)),
        A=(A, (dim, d_state)),
        B=(B, (batch, seqlen, d_state)),
        C=(C, (batch, seqlen, d_state)),
        D=(D, (dim,)),
        z=(z, (batch, seqlen, dim)),
        delta_bias=(delta_bias, (dim,)),
    )
    _check_all('selective_scan', 'u', u, wanted)
    if gaps is None:
        return
    check_gaps('selective_scan', 'u', u, gaps, (batch, seqlen))
    if delta_bias is None:
        raise ValueError(
            'selective_scan: gaps need delta_bias, since an idle step has '
            'the size softplus(delta_bias); got delta_bias=None'
        )


def check_gaps(
    op: str,
    first_name: str,
    first: Tensor,
    gaps: Tensor,
    shape: tuple[int, ...],
) -> None:
    """Refuse gaps that are no counts of idle steps.

    Args:
        op (str): Operator, for the message.
        first_name (str): Input that they have to fit, for the message.
        first (Tensor): That input.
        gaps (Tensor): Idle steps before each token.
        shape (tuple[int, ...]): What they must have.

    Raises:
        ValueError: If shape, dtype or device do not fit, or they want a
            gradient.
    """
    _check_fit(op, first_name, first, 'gaps', gaps, shape)
    if gaps.dtype == torch.bool or gaps.is_complex() or gaps.requires_grad:
        raise ValueError(
            f'{op}: gaps must be counts (int64, say) without a gradient, got '
            f'{gaps.dtype} with requires_grad={gaps.requires_grad}; '
            'detach or cast them'
        )


def check_conv_inputs(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None
) -> None:
    """Refuse inputs of the causal convolution that do not fit together.

    Args:
        x (Tensor): Input sequence, (batch, seqlen, dim).
        weight (Tensor): One kernel per channel, (dim, width).
        bias (Tensor, optional): Bias, (dim,).
        activation (str, optional): 'silu' or None.

    Raises:
        ValueError: If a shape, a dtype, a device or the activation is wrong.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"causal_conv1d: activation must be 'silu' or None, got "
            f'{activation!r}'
        )
    _check_dims('causal_conv1d', 'x', x, '(batch, seqlen, dim)', 3)
    _check_dims('causal_conv1d', 'weight', weight, '(dim, width)', 2)
    _check_taps('causal_conv1d', 'weight', weight)
    dim, width = x.shape[2], weight.shape[1]
    wanted = dict(weight=(weight, (dim, width)), bias=(bias, (dim,)))
    _check_all('causal_conv1d', 'x', x, wanted)


def check_norm_inputs(
    x: Tensor, residual: Tensor | None, weight: Tensor
) -> None:
    """Refuse inputs of a residual norm that do not fit together.

    Args:
        x (Tensor): Branch, (..., dim).
        residual (Tensor, optional): Stream, (..., dim).
        weight (Tensor): Scale, (dim,).

    Raises:
        ValueError: If a shape, a dtype or a device does not fit.
    """
    shape = tuple(x.shape)
    wanted = dict(residual=(residual, shape), weight=(weight, shape[-1:]))
    _check_all('add_rms_norm', 'x', x, wanted)


def check_inner_inputs(
    x: Tensor, z: Tensor, *directions: DirectionWeights
) -> None:
    """Refuse inputs of a bidirectional mixer that do not fit together.

    Both directions have the same sizes.

    Args:
        x (Tensor): Input of the convolutions, (batch, seqlen, dim).
        z (Tensor): Gate, (batch, seqlen, dim).
        *directions (DirectionWeights): Each direction's weights.

    Raises:
        ValueError: If a shape, a dtype or a device does not fit.
    """
    op = 'bidirectional_inner'
    _check_dims(op, 'x', x, '(batch, seqlen, dim)', 3)
    first, dim = directions[0], x.shape[2]
    for field, words in _MATRICES.items():
        _check_dims(op, f'forward.{field}', getattr(first, field), words, 2)
    width, rank = first.conv_weight.shape[1], first.dt_proj.shape[1]
    d_state = first.A_log.shape[1]
    _check_taps(op, 'forward.conv_weight', first.conv_weight)
    shapes = dict(
        conv_weight=(dim, width),
        conv_bias=(dim,),
        x_proj=(rank + 2 * d_state, dim),
        dt_proj=(dim, rank),
        dt_bias=(dim,),
        A_log=(dim, d_state),
        D=(dim,),
    )
    wanted: dict[str, tuple[Tensor | None, tuple[int, ...]]] = dict(
        z=(z, tuple(x.shape))
    )
    for name, weights in zip(('forward', 'backward'), directions, strict=True):
        for field, weight in weights._asdict().items():
            wanted[f'{name}.{field}'] = (weight, shapes[field])
    _check_all(op, 'x', x, wanted)


def _check_dims(op: str, name: str, x: Tensor, words: str, dims: int) -> None:
    _check_tensor(op, name, x)
    if x.dim() != dims:
        raise ValueError(
            f'{op}: {name} must have the shape {words}, got {tuple(x.shape)}'
        )


def _check_tensor(op: str, name: str, x: object) -> None:
    if not isinstance(x, Tensor):
        raise ValueError(
            f'{op}: {name} must be a tensor, got {type(x).__name__}'
        )


def _check_taps(op: str, name: str, weight: Tensor) -> None:
    if weight.shape[1] < 1:
        raise ValueError(
            f'{op}: {name} must hold at least one tap, got shape '
            f'{tuple(weight.shape)}'
        )


def _check_all(
    op: str,
    first_name: str,
    first: Tensor,
    wanted: dict[str, tuple[Tensor | None, tuple[int, ...]]],
) -> None:
    _check_floating(op, first_name, first)
    for name, (x, shape) in wanted.items():
        if x is None:
            continue
        _check_fit(op, first_name, first, name, x, shape)
        _check_floating(op, name, x)


def _check_fit(
    op: str,
    first_name: str,
    first: Tensor,
    name: str,
    x: Tensor,
    shape: tuple[int, ...],
) -> None:
    _check_tensor(op, name, x)
    if tuple(x.shape) != shape:
        raise ValueError(
            f'{op}: {name} must have the shape {shape} to fit '
            f'{first_name} {tuple(first.shape)}, got {tuple(x.shape)}'
        )
    if x.device != first.device:
        raise ValueError(
            f'{op}: {name} is on {x.device} but {first_name} is on '
            f'{first.device}; move both to one device'
        )


def _check_floating(op: str, name: str, x: Tensor) -> None:
    if not x.is_floating_point():
        raise ValueError(
            f'{op}: {name} must be a floating point tensor, got {x.dtype}'
        )
