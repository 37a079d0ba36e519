"""Parts of kernels: one token of a scan, and softplus.

A state has the shape (states, channels), with a channel a thread: loads are
coalesced in the (batch, seqlen, dim) layout and a sum over the states stays
inside its thread. ``one`` is 1, hidden from the compiler; see ``launch.ONE``.
"""
# ruff: noqa: ANN001, ANN201 (Triton gives annotations a meaning of its own)

import triton
import triton.language as tl


@triton.jit
def softplus(x):
    """Return log(1 + exp(x)), to full relative precision for any x.

    log1p(w) = 2 artanh(w / (2 + w)) by its series up to the 13th power, since
    the GPU's logarithm loses the digits of 1 + w for a small step size.
    """
    w = tl.exp(-tl.abs(x))
    s = w / (2.0 + w)
    q = s * s
    series = 1.0 / 11.0 + q * (1.0 / 13.0)
    series = 1.0 / 9.0 + q * series
    series = 1.0 / 7.0 + q * series
    series = 1.0 / 5.0 + q * series
    series = 1.0 / 3.0 + q * series
    return tl.maximum(x, 0.0) + 2.0 * (s + s * q * series)


@triton.jit
def own_tile(dim, d_state, one, CHANNELS: tl.constexpr, STATES: tl.constexpr):
    """Find the channels of a program (grid axis 0) and the tile of a state.

    Returns the channels ``cols`` and states ``rows``, their masks, and mask
    and offsets of the tile (states, channels) in memory (d_state, dim).
    """
    cols = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    rows = tl.arange(0, STATES)
    mask, row_mask = cols < dim, rows < d_state
    tile_mask = row_mask[:, None] & mask[None, :]
    tile = rows[:, None] * dim + cols[None, :] * one
    return cols, rows, mask, row_mask, tile_mask, tile


@triton.jit
def load_row(start, cols, mask):
    """Return one token's values in float32, zeros where masked."""
    return tl.load(start + cols, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def load_channels(start, cols, mask, IS_GIVEN: tl.constexpr):
    """Return one float32 value a channel, zeros for an absent parameter."""
    if IS_GIVEN:
        values = tl.load(start + cols, mask=mask, other=0.0)
    else:
        values = tl.zeros(cols.shape, tl.float32)
    return values


@triton.jit
def load_rates(A, cols, rows, mask, d_state, one):
    """Return A / log(2), (states, channels): exp(x A) = exp2(x rates)."""
    where = A + cols[None, :] * d_state + rows[:, None] * one
    return tl.load(where, mask=mask, other=0.0) * 1.4426950408889634


@triton.jit
def load_step_size(start, cols, mask, bias, SOFTPLUS: tl.constexpr):
    """Return one token's step sizes, (channels,)."""
    delta = load_row(start, cols, mask) + bias
    if SOFTPLUS:
        delta = softplus(delta)
    return delta


@triton.jit
def scan_token(
    state,
    rates,
    skip,
    bias,
    u,
    delta,
    B,
    C,
    cols,
    rows,
    mask,
    row_mask,
    SOFTPLUS: tl.constexpr,
):
    """Take one token into the state; return the state and the output.

    ``u``, ``delta``, ``B`` and ``C`` point to the token.
    """
    x = load_row(u, cols, mask)
    step = load_step_size(delta, cols, mask, bias, SOFTPLUS)
    b = load_row(B, rows, row_mask)
    c = load_row(C, rows, row_mask)
    state = tl.exp2(step[None, :] * rates) * state
    state += (step * x)[None, :] * b[:, None]
    return state, tl.sum(state * c[:, None], axis=0) + skip * x
