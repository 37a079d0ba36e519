"""Launches of the causal depthwise convolution."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from .conv_kernels import conv_backward_kernel, conv_kernel
from .launch import last_dense, launch

# Tokens and channels of a program: 16 values a thread of 4 warps.
TOKENS = 32
CHANNELS = 64


def _tile(seqlen: int, dim: int) -> tuple[int, int]:
    tokens = min(TOKENS, triton.next_power_of_2(max(seqlen, 1)))
    return tokens, min(CHANNELS, triton.next_power_of_2(max(dim, 1)))


def conv_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    reverse: bool,
) -> Tensor:
    """Convolve one sequence along one or both directions.

    Args:
        x (Tensor): Sequences (batch, seqlen, dim).
        weight (Tensor): Taps, (directions, dim, width).
        bias (Tensor | None): Bias, (directions, dim).
        silu (bool): Whether SiLU follows.
        reverse (bool): Whether the first direction looks ahead; the second
            one looks the other way.

    Returns:
        Tensor: (directions, batch, seqlen, dim) in the dtype of ``x``.
    """
    x = last_dense(x)
    out = x.new_empty((weight.shape[0], *x.shape))
    _convolve(x, 0, weight, bias, out, silu, reverse, sums=False)
    return out


def _convolve(
    x: Tensor,
    x_direction: int,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
    silu: bool,
    reverse: bool,
    sums: bool,
) -> None:
    batch, seqlen, dim = out.shape[-3:]
    tokens, channels = _tile(seqlen, dim)
    bias = bias if bias is None else bias.contiguous()
    launch(
        conv_kernel,
        (triton.cdiv(dim, channels), triton.cdiv(seqlen, tokens), batch),
        *(x, weight.contiguous(), bias, out, seqlen, dim),
        *(x_direction, *x.stride()[-3:-1]),
        HAS_BIAS=bias is not None,
        SILU=silu,
        SUMS=sums,
        DIRECTIONS=weight.shape[0],
        REVERSE=int(reverse),
        WIDTH=weight.shape[2],
        TOKENS=tokens,
        CHANNELS=channels,
        num_warps=4,
    )


def conv_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Compute the gradients of :func:`conv_forward`.

    Two launches: the gradient before the activation, with those of weight and
    bias; then that of ``x``, the same convolution looking the other way.

    Args:
        grad (Tensor): Gradient of the output, (directions, batch, seqlen,
            dim).
        x (Tensor): Sequences (batch, seqlen, dim).
        weight (Tensor): Taps, (directions, dim, width).
        bias (Tensor | None): Bias, (directions, dim).
        silu (bool): Whether SiLU followed.
        reverse (bool): Whether the first direction looked ahead.

    Returns:
        tuple[Tensor, Tensor, Tensor | None]: Gradients of x, weight and bias
        in their shapes and dtypes; None for an absent bias.
    """
    x, grad, weight = last_dense(x), grad.contiguous(), weight.contiguous()
    bias = bias if bias is None else bias.contiguous()
    directions, batch, seqlen, dim = grad.shape
    tokens, channels = _tile(seqlen, dim)
    blocks = triton.cdiv(dim, channels), triton.cdiv(seqlen, tokens)
    # One sequence, one gradient: what is summed afterwards stays float32.
    exact = torch.float32 if directions > 1 else grad.dtype
    grad_sum = torch.empty_like(grad, dtype=exact)
    sums = (batch, blocks[1], directions, dim)
    grad_weight = weight.new_empty((*sums, weight.shape[2]))
    grad_bias = None if bias is None else bias.new_empty(sums)
    launch(
        conv_backward_kernel,
        (*blocks, batch),
        *(x, weight, bias, grad, grad_sum, grad_weight, grad_bias),
        *(seqlen, dim, *x.stride()[:2]),
        HAS_BIAS=bias is not None,
        SILU=silu,
        DIRECTIONS=directions,
        REVERSE=int(reverse),
        WIDTH=weight.shape[2],
        TOKENS=tokens,
        CHANNELS=channels,
        num_warps=4,
    )
    grad_x = x.new_empty(x.shape)
    plane = batch * seqlen * dim
    _convolve(
        *(grad_sum, plane, weight, None, grad_x),
        silu=False,
        reverse=not reverse,
        sums=True,
    )
    return (
        grad_x,
        grad_weight.sum((0, 1)),
        grad_bias if grad_bias is None else grad_bias.sum((0, 1)),
    )
