"""Kernels of the causal depthwise convolution, one or both directions.

Grid: (blocks of channels, blocks of tokens, batch). A program reads its
tokens once a tap, which the cache serves, and computes both directions.
"""
# ruff: noqa: ANN001, ANN201 (Triton gives annotations a meaning of its own)

import triton
import triton.language as tl


@triton.jit
def load_tap(x, place, cols, mask, seqlen, token):
    """Return (tokens, channels) in float32, zeros outside the sequence."""
    inside = (place >= 0) & (place < seqlen)
    where = x + place[:, None] * token + cols[None, :]
    keep = inside[:, None] & mask[None, :]
    return tl.load(where, mask=keep, other=0.0).to(tl.float32)


@triton.jit
def conv_kernel(
    x,
    weight,
    bias,
    out,
    seqlen,
    dim,
    x_direction,
    x_batch,
    x_token,
    HAS_BIAS: tl.constexpr,
    SILU: tl.constexpr,
    SUMS: tl.constexpr,
    DIRECTIONS: tl.constexpr,
    REVERSE: tl.constexpr,
    WIDTH: tl.constexpr,
    TOKENS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Convolve: out (directions, batch, seqlen, dim), or their sum."""
    batch = tl.program_id(2).to(tl.int64)
    cols = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    mask = cols < dim
    # 64 bits: a token's place times its stride may not fit into 32.
    tokens = tl.program_id(1).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    keep = (tokens < seqlen)[:, None] & mask[None, :]
    plane = tl.num_programs(2).to(tl.int64) * seqlen * dim
    out += batch * seqlen * dim
    x += batch * x_batch
    total = tl.zeros((TOKENS, CHANNELS), tl.float32)
    for direction in tl.static_range(DIRECTIONS):
        sign = 1 - 2 * ((direction + REVERSE) % 2)
        row = direction * dim + cols
        if not SUMS:
            total = tl.zeros((TOKENS, CHANNELS), tl.float32)
        if HAS_BIAS:
            total += tl.load(bias + row, mask=mask, other=0.0)[None, :]
        for k in tl.static_range(WIDTH):
            tap = tl.load(weight + row * WIDTH + k, mask=mask, other=0.0)
            place = tokens - (WIDTH - 1 - k) * sign
            start = x + direction * x_direction
            total += tap[None, :] * load_tap(
                start, place, cols, mask, seqlen, x_token
            )
        if not SUMS:
            if SILU:
                total *= tl.sigmoid(total)
            where = tokens[:, None] * dim + cols[None, :]
            tl.store(out + direction * plane + where, total, mask=keep)
    if SUMS:
        where = tokens[:, None] * dim + cols[None, :]
        tl.store(out + where, total, mask=keep)


@triton.jit
def conv_backward_kernel(
    x,
    weight,
    bias,
    grad,
    grad_sum,
    grad_weight,
    grad_bias,
    seqlen,
    dim,
    x_batch,
    x_token,
    HAS_BIAS: tl.constexpr,
    SILU: tl.constexpr,
    DIRECTIONS: tl.constexpr,
    REVERSE: tl.constexpr,
    WIDTH: tl.constexpr,
    TOKENS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Write the gradients of the convolution's sum, weight and bias.

    grad_sum is like grad (directions, batch, seqlen, dim): that of the value
    before the activation, which is computed once more. grad_weight goes out
    in parts (batch, blocks of tokens, directions, dim, width), grad_bias
    (batch, blocks of tokens, directions, dim).
    """
    batch = tl.program_id(2).to(tl.int64)
    cols = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    mask = cols < dim
    # 64 bits: a token's place times its stride may not fit into 32.
    tokens = tl.program_id(1).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    keep = (tokens < seqlen)[:, None] & mask[None, :]
    plane = tl.num_programs(2).to(tl.int64) * seqlen * dim
    part = batch * tl.num_programs(1) + tl.program_id(1)
    x += batch * x_batch
    for direction in tl.static_range(DIRECTIONS):
        sign = 1 - 2 * ((direction + REVERSE) % 2)
        row = direction * dim + cols
        here = direction * plane + batch * seqlen * dim
        where = here + tokens[:, None] * dim + cols[None, :]
        g = tl.load(grad + where, mask=keep, other=0.0).to(tl.float32)
        if SILU:
            total = tl.zeros((TOKENS, CHANNELS), tl.float32)
            if HAS_BIAS:
                total += tl.load(bias + row, mask=mask, other=0.0)[None, :]
            for k in tl.static_range(WIDTH):
                tap = tl.load(weight + row * WIDTH + k, mask=mask, other=0.0)
                place = tokens - (WIDTH - 1 - k) * sign
                total += tap[None, :] * load_tap(
                    x, place, cols, mask, seqlen, x_token
                )
            sigmoid = tl.sigmoid(total)
            g *= sigmoid * (1.0 + total * (1.0 - sigmoid))
        tl.store(grad_sum + where, g, mask=keep)
        slot = part * DIRECTIONS * dim + row
        if HAS_BIAS:
            tl.store(grad_bias + slot, tl.sum(g, axis=0), mask=mask)
        for k in tl.static_range(WIDTH):
            place = tokens - (WIDTH - 1 - k) * sign
            tap = load_tap(x, place, cols, mask, seqlen, x_token)
            total = tl.sum(g * tap, axis=0)
            tl.store(grad_weight + slot * WIDTH + k, total, mask=mask)
