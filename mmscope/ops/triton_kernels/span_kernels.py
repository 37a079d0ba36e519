"""Kernels that find what each span of a cut sequence starts from."""
# ruff: noqa: ANN001, ANN201 (Triton gives annotations a meaning of its own)

import triton
import triton.language as tl

from .steps import (
    at_token,
    load,
    load_channels,
    load_rates,
    load_states,
    own_sequence,
    own_tile,
    sigmoid,
    step_size,
    store,
)


@triton.jit
def span_kernel(
    u,
    delta,
    A,
    B,
    C,
    z,
    bias,
    grad,
    carries,
    totals,
    num_batch,
    seqlen,
    span,
    bc_direction,
    bc_batch,
    z_batch,
    reverse,
    SCALE: tl.constexpr,
    HAS_Z: tl.constexpr,
    OF_GRADIENT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    DIM: tl.constexpr,
    D_STATE: tl.constexpr,
    BC_TOKEN: tl.constexpr,
    Z_TOKEN: tl.constexpr,
    ALIGN: tl.constexpr,
    EXACT: tl.constexpr,
    PACKED: tl.constexpr,
    EVEN: tl.constexpr,
    CHANNELS: tl.constexpr,
    STATES: tl.constexpr,
):
    """Write what a span adds to a state and the sum of its step sizes.

    The grid's second axis is (directions, batch). ``OF_GRADIENT`` takes the
    gradient of the state, which runs against the scan: from each token it
    gets C times the gradient of the ungated output, then it decays.
    """
    SIZE: tl.constexpr = D_STATE * DIM
    row, direction, batch, backwards = own_sequence(num_batch, reverse)
    cols, mask, row_mask, tile_mask, tile = own_tile(
        DIM, D_STATE, CHANNELS, STATES
    )
    begin = tl.program_id(2) * span
    length = tl.minimum(span, seqlen - begin)
    if OF_GRADIENT:
        backwards = 1 - backwards
    sign = 1 - 2 * backwards
    token = begin + (length - 1) * backwards
    u, delta, grad, z, B, C = at_token(
        u,
        delta,
        grad,
        z,
        B,
        C,
        row,
        direction,
        batch,
        token,
        cols,
        seqlen,
        bc_direction,
        bc_batch,
        z_batch,
        DIM,
        STATES,
        BC_TOKEN,
        Z_TOKEN,
        ALIGN,
        PACKED,
    )
    rates = load_rates(A + direction * SIZE, tile, tile_mask, EVEN)
    shift = load_channels(bias + direction * DIM, cols, mask, HAS_BIAS, EVEN)
    state = tl.zeros((STATES, CHANNELS), tl.float32)
    total = tl.zeros((CHANNELS,), tl.float32)
    for _ in range(length):
        raw = load(delta, mask, EVEN).to(tl.float32)
        step = step_size(raw, shift, SOFTPLUS, EXACT)
        decay = tl.exp2(step[None, :] * rates)
        if OF_GRADIENT:
            g = load(grad, mask, EVEN).to(tl.float32) * SCALE
            if HAS_Z:
                gate = load(z, mask, EVEN).to(tl.float32)
                g *= gate * sigmoid(gate)
            c = load_states(C, row_mask, PACKED, EVEN)
            state = decay * (state + c[:, None] * g[None, :])
        else:
            x = load(u, mask, EVEN).to(tl.float32)
            b = load_states(B, row_mask, PACKED, EVEN)
            state = decay * state + (step * x)[None, :] * b[:, None]
        total += step
        u += sign * DIM
        delta += sign * DIM
        grad += sign * DIM
        z += sign * Z_TOKEN
        B += sign * BC_TOKEN
        C += sign * BC_TOKEN
    place = row * tl.num_programs(2) + tl.program_id(2)
    store(carries + place * SIZE + tile, state, tile_mask, EVEN)
    store(totals + place * DIM + cols, total, mask, EVEN)


@triton.jit
def carry_kernel(
    A,
    carries,
    totals,
    num_batch,
    spans,
    against,
    reverse,
    DIM: tl.constexpr,
    D_STATE: tl.constexpr,
    EVEN: tl.constexpr,
    CHANNELS: tl.constexpr,
    STATES: tl.constexpr,
):
    """Turn what each span adds into the state that each span starts from.

    Over a span of step sizes delta the state decays by exp(A sum(delta)).
    """
    SIZE: tl.constexpr = D_STATE * DIM
    row, direction, _, backwards = own_sequence(num_batch, reverse + against)
    cols, mask, _, tile_mask, tile = own_tile(DIM, D_STATE, CHANNELS, STATES)
    rates = load_rates(A + direction * SIZE, tile, tile_mask, EVEN)
    state = tl.zeros((STATES, CHANNELS), tl.float32)
    for i in range(spans):
        place = row * spans + i + (spans - 1 - 2 * i) * backwards
        slot = carries + place * SIZE + tile
        added = load(slot, tile_mask, EVEN)
        total = load(totals + place * DIM + cols, mask, EVEN)
        store(slot, state, tile_mask, EVEN)
        state = tl.exp2(total[None, :] * rates) * state + added
