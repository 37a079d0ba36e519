"""Backward kernel of the selective scan, one or both directions."""
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
    softplus_and_slope,
    step_size,
    store,
)


@triton.jit
def sum_over_channels(values, EXACT: tl.constexpr):
    """Return the sums (states,) of (states, channels).

    The channels lie in 32 threads: a sum by exchange takes five of them and
    five additions a state. The matrix unit takes a fraction of that, but cuts
    what it reads to 11 bits (tf32), which is below what bfloat16 keeps of the
    sum: not for ``EXACT``.
    """
    SUMS: tl.constexpr = 16
    if EXACT or values.shape[0] < SUMS or values.shape[1] < SUMS:
        sums = tl.sum(values, axis=1)
    else:
        # A power of two, so that the equal columns' sum is exact again.
        ones = tl.full((values.shape[1], SUMS), 1.0 / SUMS, tl.float32)
        columns = tl.dot(values, ones, input_precision='tf32')
        sums = tl.sum(columns, axis=1)
    return sums


@triton.jit
def scan_backward_kernel(
    u,
    delta,
    A,
    B,
    C,
    D,
    z,
    bias,
    grad,
    states,
    carries,
    scratch,
    grad_u,
    grad_delta,
    grad_A,
    grad_B,
    grad_C,
    grad_D,
    grad_z,
    grad_bias,
    num_batch,
    seqlen,
    span,
    bc_direction,
    bc_batch,
    z_batch,
    reverse,
    SCALE: tl.constexpr,
    HAS_D: tl.constexpr,
    HAS_Z: tl.constexpr,
    IS_CUT: tl.constexpr,
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
    CHUNK: tl.constexpr,
    CHANNELS: tl.constexpr,
    STATES: tl.constexpr,
):
    """Write all gradients of a scan, or of both directions' mean.

    Grid: (blocks of channels, directions * batch, spans). Chunk by chunk
    against the scan: from the saved state the states of the chunk are
    computed once more into ``scratch``, then the gradient of the state runs
    back over them. What sums over programs goes out in parts: grad_B, grad_C
    (blocks, directions, batch, seqlen, d_state), grad_A (directions, batch,
    spans, d_state, dim), grad_D, grad_bias (directions, batch, spans, dim);
    grad_z (directions, batch, seqlen, dim). So runs repeat bit for bit.
    """
    SIZE: tl.constexpr = D_STATE * DIM
    TILE: tl.constexpr = STATES * CHANNELS
    row, direction, batch, backwards = own_sequence(num_batch, reverse)
    block, part = tl.program_id(0), tl.program_id(2)
    cols, mask, row_mask, tile_mask, tile = own_tile(
        DIM, D_STATE, CHANNELS, STATES
    )
    rows = tl.arange(0, STATES)
    lanes = tl.max_contiguous(tl.arange(0, CHANNELS), 1).to(tl.int64)
    local = tl.max_contiguous(rows, 1).to(tl.int64)[:, None] * CHANNELS
    local += lanes[None, :]
    sign = 1 - 2 * backwards
    begin = part * span
    # All pointers are at one token, and walk from chunk to chunk: a thread
    # has no registers for where they came from.
    at = begin.to(tl.int64)
    first = (row * seqlen + at) * DIM + cols
    grad_u += first
    grad_delta += first
    grad_z += first
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
        at,
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
    states += row * tl.cdiv(seqlen, CHUNK) * SIZE
    parts = block * tl.num_programs(1).to(tl.int64) + row
    grad_B += (parts * seqlen + at) * D_STATE + rows
    grad_C += (parts * seqlen + at) * D_STATE + rows
    place = row * tl.num_programs(2) + part
    scratch += (place * tl.num_programs(0) + block) * (CHUNK * TILE)
    rates = load_rates(A + direction * SIZE, tile, tile_mask, EVEN)
    skip = load_channels(D + direction * DIM, cols, mask, HAS_D, EVEN)
    shift = load_channels(bias + direction * DIM, cols, mask, HAS_BIAS, EVEN)
    # Gradient of the state as it reaches a token from those after it.
    carry = tl.zeros((STATES, CHANNELS), tl.float32)
    if IS_CUT:
        carry = load(carries + place * SIZE + tile, tile_mask, EVEN)
    sum_A = tl.zeros((STATES, CHANNELS), tl.float32)
    sum_D = tl.zeros((CHANNELS,), tl.float32)
    sum_bias = tl.zeros((CHANNELS,), tl.float32)
    first_chunk = begin // CHUNK
    num_chunks = tl.cdiv(tl.minimum(span, seqlen - begin), CHUNK)
    for k in range(num_chunks):
        chunk = first_chunk + k * backwards
        chunk += (num_chunks - 1 - k) * (1 - backwards)
        start = chunk * CHUNK
        length = tl.minimum(CHUNK, seqlen - start)
        t = start + (length - 1) * backwards
        state = load(states + chunk * SIZE + tile, tile_mask, EVEN)
        # The threads that read may not be those that wrote.
        tl.debug_barrier()
        u += (t - at) * DIM
        delta += (t - at) * DIM
        B += (t - at) * BC_TOKEN
        tl.store(scratch + local, state)
        for i in range(1, length):
            x = load(u, mask, EVEN).to(tl.float32)
            raw = load(delta, mask, EVEN).to(tl.float32)
            step = step_size(raw, shift, SOFTPLUS, EXACT)
            b = load_states(B, row_mask, PACKED, EVEN)
            state = tl.exp2(step[None, :] * rates) * state
            state += (step * x)[None, :] * b[:, None]
            tl.store(scratch + i * TILE + local, state)
            u += sign * DIM
            delta += sign * DIM
            B += sign * BC_TOKEN
        tl.debug_barrier()
        last = t + (length - 1) * sign
        C += (last - at) * BC_TOKEN
        z += (last - at) * Z_TOKEN
        grad += (last - at) * DIM
        grad_u += (last - at) * DIM
        grad_delta += (last - at) * DIM
        grad_z += (last - at) * DIM
        grad_B += (last - at) * D_STATE
        grad_C += (last - at) * D_STATE
        at = t - sign
        for j in range(length):
            before = tl.load(scratch + (length - 1 - j) * TILE + local)
            x = load(u, mask, EVEN).to(tl.float32)
            raw = load(delta, mask, EVEN).to(tl.float32) + shift
            b = load_states(B, row_mask, PACKED, EVEN)
            c = load_states(C, row_mask, PACKED, EVEN)
            g = load(grad, mask, EVEN).to(tl.float32) * SCALE
            step, slope = raw, raw
            if SOFTPLUS:
                step, slope = softplus_and_slope(raw, EXACT)
            decay = tl.exp2(step[None, :] * rates)
            decayed = decay * before
            drive = step * x
            state = decayed + drive[None, :] * b[:, None]
            if HAS_Z:
                gate = load(z, mask, EVEN).to(tl.float32)
                share = sigmoid(gate)
                y = tl.sum(state * c[:, None], axis=0) + skip * x
                y *= g * share
                store(grad_z, y + y * gate * (1.0 - share), mask, EVEN)
                g *= gate * share
            # In this order all fits into registers: what is of a state's size
            # is used up before the next is made.
            grad_state = carry + c[:, None] * g[None, :]
            carry = decay * grad_state
            # Of the exponent: d exp(step A) = exp(step A) d(step A).
            grad_power = grad_state * decayed
            grad_drive = tl.sum(grad_state * b[:, None], axis=0)
            store(grad_u, step * grad_drive + skip * g, mask, EVEN)
            grad_step = x * grad_drive
            grad_step += 0.6931471805599453 * tl.sum(
                grad_power * rates, axis=0
            )
            if SOFTPLUS:
                grad_step *= slope
            store(grad_delta, grad_step, mask, EVEN)
            sum_D += g * x
            sum_A += grad_power * step[None, :]
            sum_b = sum_over_channels(grad_state * drive[None, :], EXACT)
            store(grad_B, sum_b, row_mask, EVEN)
            sum_c = sum_over_channels(state * g[None, :], EXACT)
            store(grad_C, sum_c, row_mask, EVEN)
            # Masked channels have a slope too, but are never stored.
            sum_bias += grad_step
            u -= sign * DIM
            delta -= sign * DIM
            grad -= sign * DIM
            z -= sign * Z_TOKEN
            B -= sign * BC_TOKEN
            C -= sign * BC_TOKEN
            grad_u -= sign * DIM
            grad_delta -= sign * DIM
            grad_z -= sign * DIM
            grad_B -= sign * D_STATE
            grad_C -= sign * D_STATE
    store(grad_A + place * SIZE + tile, sum_A, tile_mask, EVEN)
    if HAS_D:
        store(grad_D + place * DIM + cols, sum_D, mask, EVEN)
    if HAS_BIAS:
        store(grad_bias + place * DIM + cols, sum_bias, mask, EVEN)
