"""Forward kernels of the selective scan: one direction, both, spans.

Every kernel has the grid (blocks of channels, sequences, spans). A span is a
run of tokens by place, whatever the direction; the sequence is one span where
it is not cut. ``states`` holds the state before each chunk of tokens in the
order of the scan, which the backward starts from.
"""
# ruff: noqa: ANN001, ANN201 (Triton gives annotations a meaning of its own)

import triton
import triton.language as tl

from .steps import (
    load_channels,
    load_rates,
    load_row,
    load_step_size,
    own_tile,
    scan_token,
)


@triton.jit(do_not_specialize=['one'])
def scan_kernel(
    u,
    delta,
    A,
    B,
    C,
    D,
    z,
    bias,
    out,
    states,
    carries,
    seqlen,
    dim,
    d_state,
    span,
    bc_batch,
    bc_token,
    z_batch,
    z_token,
    reverse,
    one,
    HAS_D: tl.constexpr,
    HAS_Z: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    IS_CUT: tl.constexpr,
    SAVES: tl.constexpr,
    CHUNK: tl.constexpr,
    CHANNELS: tl.constexpr,
    STATES: tl.constexpr,
):
    """Scan one direction: u, delta, out (batch, seqlen, dim)."""
    batch = tl.program_id(1).to(tl.int64)
    cols, rows, mask, row_mask, tile_mask, tile = own_tile(
        dim, d_state, one, CHANNELS, STATES
    )
    begin = tl.program_id(2) * span
    length = tl.minimum(span, seqlen - begin)
    sign = 1 - 2 * reverse
    entry = (CHUNK - 1) * reverse
    first = begin + (length - 1) * reverse
    u += batch * seqlen * dim
    delta += batch * seqlen * dim
    out += batch * seqlen * dim
    B += batch * bc_batch
    C += batch * bc_batch
    z += batch * z_batch
    states += batch * tl.cdiv(seqlen, CHUNK) * d_state * dim
    rates = load_rates(A, cols, rows, tile_mask, d_state, one)
    skip = load_channels(D, cols, mask, HAS_D)
    shift = load_channels(bias, cols, mask, HAS_BIAS)
    state = tl.zeros((STATES, CHANNELS), tl.float32)
    if IS_CUT:
        carries += (batch * tl.num_programs(2) + tl.program_id(2)) * (
            d_state * dim
        )
        state = tl.load(carries + tile, mask=tile_mask, other=0.0)
    for i in range(length):
        t = first + i * sign
        # Two steps: the first is decided when the kernel is compiled.
        if SAVES:  # noqa: SIM102
            if (i == 0) | (t % CHUNK == entry):
                slot = states + (t // CHUNK).to(tl.int64) * d_state * dim
                tl.store(slot + tile, state, mask=tile_mask)
        state, y = scan_token(
            state,
            rates,
            skip,
            shift,
            u + t * dim,
            delta + t * dim,
            B + t * bc_token,
            C + t * bc_token,
            cols,
            rows,
            mask,
            row_mask,
            SOFTPLUS,
        )
        if HAS_Z:
            gate = load_row(z + t * z_token, cols, mask)
            y *= gate * tl.sigmoid(gate)
        tl.store(out + t * dim + cols, y, mask=mask)


@triton.jit(do_not_specialize=['one'])
def both_kernel(
    u,
    delta,
    A,
    B,
    C,
    D,
    z,
    bias,
    out,
    maxima,
    states,
    carries,
    seqlen,
    dim,
    d_state,
    span,
    bc_direction,
    bc_batch,
    bc_token,
    z_batch,
    z_token,
    one,
    HAS_D: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    SCORED: tl.constexpr,
    IS_CUT: tl.constexpr,
    SAVES: tl.constexpr,
    CHUNK: tl.constexpr,
    CHANNELS: tl.constexpr,
    STATES: tl.constexpr,
):
    """Scan both directions at once: out = (y_f + y_b) / 2 * silu(z).

    u, delta (2, batch, seqlen, dim). The two scans start at the two ends of
    the span and cross in its middle. Before, each leaves its output at its
    token; after, each finds there what the other has left, adds, gates and
    writes the result: no output of one direction gets a tensor of its own.
    """
    batch = tl.program_id(1).to(tl.int64)
    cols, rows, mask, row_mask, tile_mask, tile = own_tile(
        dim, d_state, one, CHANNELS, STATES
    )
    begin = tl.program_id(2) * span
    length = tl.minimum(span, seqlen - begin)
    last = begin + length - 1
    back = tl.num_programs(1).to(tl.int64)
    plane = back * seqlen * dim
    u += batch * seqlen * dim
    delta += batch * seqlen * dim
    out += batch * seqlen * dim
    B += batch * bc_batch
    C += batch * bc_batch
    z += batch * z_batch
    num_chunks = tl.cdiv(seqlen, CHUNK)
    states += batch * num_chunks * d_state * dim
    states_b = states + back * num_chunks * d_state * dim
    # maxima: (blocks, 2, batch, seqlen)
    maxima += (tl.program_id(0) * 2 * back + batch) * seqlen
    maxima_b = maxima + back * seqlen
    rates_f = load_rates(A, cols, rows, tile_mask, d_state, one)
    rates_b = load_rates(
        A + dim * d_state, cols, rows, tile_mask, d_state, one
    )
    skip_f = load_channels(D, cols, mask, HAS_D)
    skip_b = load_channels(D + dim, cols, mask, HAS_D)
    shift_f = load_channels(bias, cols, mask, HAS_BIAS)
    shift_b = load_channels(bias + dim, cols, mask, HAS_BIAS)
    state_f = tl.zeros((STATES, CHANNELS), tl.float32)
    state_b = tl.zeros((STATES, CHANNELS), tl.float32)
    if IS_CUT:
        spans = tl.num_programs(2)
        carries += (batch * spans + tl.program_id(2)) * d_state * dim
        state_f = tl.load(carries + tile, mask=tile_mask, other=0.0)
        carries += back * spans * d_state * dim
        state_b = tl.load(carries + tile, mask=tile_mask, other=0.0)
    half = (length + 1) // 2
    for i in range(length):
        # Other threads of the program may have left what is found now.
        if i == half:
            tl.debug_barrier()
        f = begin + i
        b = last - i
        if SAVES:
            if f % CHUNK == 0:
                slot = states + (f // CHUNK).to(tl.int64) * d_state * dim
                tl.store(slot + tile, state_f, mask=tile_mask)
            if (i == 0) | (b % CHUNK == CHUNK - 1):
                slot = states_b + (b // CHUNK).to(tl.int64) * d_state * dim
                tl.store(slot + tile, state_b, mask=tile_mask)
        state_f, y_f = scan_token(
            state_f,
            rates_f,
            skip_f,
            shift_f,
            u + f * dim,
            delta + f * dim,
            B + f * bc_token,
            C + f * bc_token,
            cols,
            rows,
            mask,
            row_mask,
            SOFTPLUS,
        )
        state_b, y_b = scan_token(
            state_b,
            rates_b,
            skip_b,
            shift_b,
            u + plane + b * dim,
            delta + plane + b * dim,
            B + bc_direction + b * bc_token,
            C + bc_direction + b * bc_token,
            cols,
            rows,
            mask,
            row_mask,
            SOFTPLUS,
        )
        if SCORED:
            low = float('-inf')
            tl.store(maxima + f, tl.max(tl.where(mask, y_f, low), axis=0))
            tl.store(maxima_b + b, tl.max(tl.where(mask, y_b, low), axis=0))
        if f < b:
            tl.store(out + f * dim + cols, y_f, mask=mask)
            tl.store(out + b * dim + cols, y_b, mask=mask)
        else:
            if f == b:
                y_f += y_b
            else:
                y_f += load_row(out + f * dim, cols, mask)
                y_b += load_row(out + b * dim, cols, mask)
                gate = load_row(z + b * z_token, cols, mask)
                y_b *= 0.5 * gate * tl.sigmoid(gate)
                tl.store(out + b * dim + cols, y_b, mask=mask)
            gate = load_row(z + f * z_token, cols, mask)
            y_f *= 0.5 * gate * tl.sigmoid(gate)
            tl.store(out + f * dim + cols, y_f, mask=mask)


@triton.jit(do_not_specialize=['one'])
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
    dim,
    d_state,
    span,
    bc_direction,
    bc_batch,
    bc_token,
    z_batch,
    z_token,
    reverse,
    one,
    SCALE: tl.constexpr,
    HAS_Z: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    OF_GRADIENT: tl.constexpr,
    CHANNELS: tl.constexpr,
    STATES: tl.constexpr,
):
    """Write what a span adds to a state and the sum of its step sizes.

    The grid's second axis is (directions, batch). ``OF_GRADIENT`` takes the
    gradient of the state, which runs against the scan: from each token it
    gets C times the gradient of the ungated output, then it decays.
    """
    row = tl.program_id(1).to(tl.int64)
    direction, batch = row // num_batch, row % num_batch
    cols, rows, mask, row_mask, tile_mask, tile = own_tile(
        dim, d_state, one, CHANNELS, STATES
    )
    begin = tl.program_id(2) * span
    length = tl.minimum(span, seqlen - begin)
    # One of the two directions is 1 where both are scanned.
    backwards = (direction + reverse) % 2
    if OF_GRADIENT:
        backwards = 1 - backwards
    sign = (1 - 2 * backwards).to(tl.int32)
    first = begin + ((length - 1) * backwards).to(tl.int32)
    u += row * seqlen * dim
    delta += row * seqlen * dim
    grad += batch * seqlen * dim
    B += direction * bc_direction + batch * bc_batch
    C += direction * bc_direction + batch * bc_batch
    z += batch * z_batch
    rates = load_rates(
        A + direction * dim * d_state, cols, rows, tile_mask, d_state, one
    )
    shift = load_channels(bias + direction * dim, cols, mask, HAS_BIAS)
    state = tl.zeros((STATES, CHANNELS), tl.float32)
    total = tl.zeros((CHANNELS,), tl.float32)
    for i in range(length):
        t = first + i * sign
        step = load_step_size(delta + t * dim, cols, mask, shift, SOFTPLUS)
        decay = tl.exp2(step[None, :] * rates)
        if OF_GRADIENT:
            g = load_row(grad + t * dim, cols, mask) * SCALE
            if HAS_Z:
                gate = load_row(z + t * z_token, cols, mask)
                g *= gate * tl.sigmoid(gate)
            c = load_row(C + t * bc_token, rows, row_mask)
            state = decay * (state + c[:, None] * g[None, :])
        else:
            x = load_row(u + t * dim, cols, mask)
            b = load_row(B + t * bc_token, rows, row_mask)
            state = decay * state + (step * x)[None, :] * b[:, None]
        total += step
    place = row * tl.num_programs(2) + tl.program_id(2)
    tl.store(carries + place * d_state * dim + tile, state, mask=tile_mask)
    tl.store(totals + place * dim + cols, total, mask=mask)


@triton.jit(do_not_specialize=['one'])
def carry_kernel(
    A,
    carries,
    totals,
    num_batch,
    dim,
    d_state,
    spans,
    against,
    reverse,
    one,
    CHANNELS: tl.constexpr,
    STATES: tl.constexpr,
):
    """Turn what each span adds into the state that each span starts from.

    Over a span of step sizes delta the state decays by exp(A sum(delta)).
    """
    row = tl.program_id(1).to(tl.int64)
    direction = row // num_batch
    cols, rows, mask, _, tile_mask, tile = own_tile(
        dim, d_state, one, CHANNELS, STATES
    )
    backwards = (direction + reverse + against) % 2
    rates = load_rates(
        A + direction * dim * d_state, cols, rows, tile_mask, d_state, one
    )
    state = tl.zeros((STATES, CHANNELS), tl.float32)
    for i in range(spans):
        place = row * spans + i + (spans - 1 - 2 * i) * backwards
        slot = carries + place * d_state * dim + tile
        added = tl.load(slot, mask=tile_mask, other=0.0)
        total = tl.load(totals + place * dim + cols, mask=mask, other=0.0)
        tl.store(slot, state, mask=tile_mask)
        state = tl.exp2(total[None, :] * rates) * state + added
