"""Parts of kernels: one token of a scan, and the functions of step sizes.

A state has the shape (states, channels), with a channel a thread: loads are
coalesced in the (batch, seqlen, dim) layout and a sum over the states stays
inside its thread. ``EVEN``: no tile sticks out of its tensor, so that nothing
is masked.
"""
# ruff: noqa: ANN001, ANN201 (Triton gives annotations a meaning of its own)

import triton
import triton.language as tl


@triton.jit
def log1p_of(w, EXACT: tl.constexpr):
    """Return log(1 + w) of w in [0, 1], to the same relative precision.

    log(1 + w) / w is a polynomial fitted to least relative error: 2e-7 where
    ``EXACT``, else 6e-5, of which bfloat16 keeps nothing. The GPU's logarithm
    would lose the digits of 1 + w for a small step size.
    """
    if EXACT:
        series = -0.0295053658 + w * 0.00523271673
        series = 0.0782262299 + w * series
        series = -0.136632769 + w * series
        series = 0.191060261 + w * series
        series = -0.248429889 + w * series
        series = 0.33319098 + w * series
        series = -0.499994932 + w * series
        series = 0.99999997 + w * series
    else:
        series = -0.157426594 + w * 0.0413471811
        series = 0.306300215 + w * series
        series = -0.496977538 + w * series
        series = 0.999943253 + w * series
    return w * series


@triton.jit
def softplus(x, EXACT: tl.constexpr):
    """Return log(1 + exp(x))."""
    w = tl.exp2(tl.abs(x) * -1.4426950408889634)
    return tl.maximum(x, 0.0) + log1p_of(w, EXACT)


@triton.jit
def softplus_and_slope(x, EXACT: tl.constexpr):
    """Return log(1 + exp(x)) and its derivative, of one exponential."""
    w = tl.exp2(tl.abs(x) * -1.4426950408889634)
    root = tl.rsqrt(1.0 + w)
    slope = root * root * tl.where(x < 0.0, w, 1.0)
    return tl.maximum(x, 0.0) + log1p_of(w, EXACT), slope


@triton.jit
def sigmoid(x):
    """Return 1 / (1 + exp(-x)) without the guarded quotient of tl.sigmoid."""
    root = tl.rsqrt(1.0 + tl.exp2(x * -1.4426950408889634))
    return root * root


@triton.jit
def own_tile(
    DIM: tl.constexpr,
    D_STATE: tl.constexpr,
    CHANNELS: tl.constexpr,
    STATES: tl.constexpr,
):
    """Find the channels of a program (grid axis 0) and the tile of a state.

    Returns the channels ``cols``, their mask and that of the states, and mask
    and offsets of the tile (states, channels) in memory (d_state, dim). Told
    that no more than one (of 64 channels two) values lie side by side, the
    compiler leaves a channel's states to one thread; it would else read four
    at once and so spread them.
    """
    cols = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    cols = tl.max_contiguous(cols, (CHANNELS + 31) // 32)
    rows = tl.max_contiguous(tl.arange(0, STATES), 1)
    mask, row_mask = cols < DIM, tl.arange(0, STATES) < D_STATE
    tile_mask = (rows < D_STATE)[:, None] & mask[None, :]
    # 64 bits: the compiler then sees that rows are a fixed step apart, and
    # keeps one address for all states.
    tile = rows.to(tl.int64)[:, None] * DIM + cols.to(tl.int64)[None, :]
    return cols, mask, row_mask, tile_mask, tile


@triton.jit
def own_sequence(num_batch, reverse):
    """Find the sequence of a program (grid axis 1: directions, batch).

    Returns its place among all sequences, direction, batch entry, and
    whether its tokens come backwards.
    """
    row = tl.program_id(1).to(tl.int64)
    direction, batch = row // num_batch, row % num_batch
    # One of the two directions is 1 where both are scanned.
    return row, direction, batch, (direction + reverse) % 2


@triton.jit
def at_token(
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
    DIM: tl.constexpr,
    STATES: tl.constexpr,
    BC_TOKEN: tl.constexpr,
    Z_TOKEN: tl.constexpr,
    ALIGN: tl.constexpr,
    PACKED: tl.constexpr,
):
    """Return the pointers at one token of a sequence of :func:`own_sequence`.

    ``grad`` and ``z`` have one sequence for both directions.
    """
    place = (row * seqlen + token) * DIM + cols
    grad += (batch * seqlen + token) * DIM + cols
    z = tl.multiple_of(z + batch * z_batch + token * Z_TOKEN, ALIGN) + cols
    offset = direction * bc_direction + batch * bc_batch
    B = state_rows(B, offset, token, STATES, BC_TOKEN, ALIGN, PACKED)
    C = state_rows(C, offset, token, STATES, BC_TOKEN, ALIGN, PACKED)
    return u + place, delta + place, grad, z, B, C


@triton.jit
def load(where, mask, EVEN: tl.constexpr):
    """Return what is in memory, zeros where masked."""
    if EVEN:
        values = tl.load(where)
    else:
        values = tl.load(where, mask=mask, other=0.0)
    return values


@triton.jit
def store(where, values, mask, EVEN: tl.constexpr):
    """Write all values, or those of the mask."""
    if EVEN:
        tl.store(where, values)
    else:
        tl.store(where, values, mask=mask)


@triton.jit
def load_channels(
    start, cols, mask, IS_GIVEN: tl.constexpr, EVEN: tl.constexpr
):
    """Return one float32 value a channel, zeros for an absent parameter."""
    if IS_GIVEN:
        values = load(start + cols, mask, EVEN)
    else:
        values = tl.zeros(cols.shape, tl.float32)
    return values


@triton.jit
def load_rates(A, tile, mask, EVEN: tl.constexpr):
    """Return A / log(2), (states, channels): exp(x A) = exp2(x rates)."""
    return load(A + tile, mask, EVEN) * 1.4426950408889634


@triton.jit
def state_rows(
    start,
    offset,
    token,
    STATES: tl.constexpr,
    TOKEN: tl.constexpr,
    ALIGN: tl.constexpr,
    PACKED: tl.constexpr,
):
    """Return pointers to one token's B or C, by value or by pair of them.

    ``ALIGN``: bytes that divide every token's address, which the compiler
    cannot see through strides and offsets.
    """
    start = tl.multiple_of(start + offset + token.to(tl.int64) * TOKEN, ALIGN)
    if PACKED:
        places = start + tl.arange(0, STATES // 2)
    else:
        places = start + tl.arange(0, STATES)
    return places


@triton.jit
def load_states(where, mask, PACKED: tl.constexpr, EVEN: tl.constexpr):
    """Return one token's B or C in float32.

    ``PACKED``: a 32-bit word has two bfloat16, each the upper half of its
    float32. One instruction a value; the compiler's own way takes two.
    """
    if PACKED:
        words = tl.load(where)
        low = (words << 16).to(tl.float32, bitcast=True)
        high = (words & -65536).to(tl.float32, bitcast=True)
        values = tl.reshape(tl.join(low, high), (2 * words.shape[0],))
    else:
        values = load(where, mask, EVEN).to(tl.float32)
    return values


@triton.jit
def step_size(raw, bias, SOFTPLUS: tl.constexpr, EXACT: tl.constexpr):
    """Return one token's step sizes, (channels,)."""
    step = raw + bias
    if SOFTPLUS:
        step = softplus(step, EXACT)
    return step


@triton.jit
def scan_token(
    state,
    rates,
    skip,
    bias,
    x,
    raw,
    b,
    c,
    SOFTPLUS: tl.constexpr,
    EXACT: tl.constexpr,
):
    """Take one token into the state; return the state and the output."""
    step = step_size(raw, bias, SOFTPLUS, EXACT)
    state = tl.exp2(step[None, :] * rates) * state
    state += (step * x)[None, :] * b[:, None]
    return state, tl.sum(state * c[:, None], axis=0) + skip * x


@triton.jit
def gated(y, gate, other, HAS_Z: tl.constexpr, ADDS: tl.constexpr):
    """Take the mean with the other direction's output; gate by silu(z)."""
    if ADDS:
        y = 0.5 * (y + other)
    if HAS_Z:
        y *= gate * sigmoid(gate)
    return y
