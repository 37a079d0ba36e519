"""Parts of the forward's kernel: two tokens at a time."""
# ruff: noqa: ANN001, ANN201 (Triton gives annotations a meaning of its own)

import triton
import triton.language as tl

from .steps import gated, load, load_states, scan_token, store


@triton.jit
def load_token(
    u,
    delta,
    z,
    out,
    mask,
    HAS_Z: tl.constexpr,
    ADDS: tl.constexpr,
    EVEN: tl.constexpr,
):
    """Return a token's u, delta, z and output of the other direction."""
    x = load(u, mask, EVEN).to(tl.float32)
    raw = load(delta, mask, EVEN).to(tl.float32)
    gate, other = x, x
    if HAS_Z:
        gate = load(z, mask, EVEN).to(tl.float32)
    if ADDS:
        other = load(out, mask, EVEN).to(tl.float32)
    return x, raw, gate, other


@triton.jit
def ordered(bits):
    """Return integers in the order of the floats of these bits, or back.

    The largest integer of a warp is one instruction, the largest float ten.
    """
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def store_largest(maxima, y, mask, SCORED: tl.constexpr, EVEN: tl.constexpr):
    """Write a token's largest channel."""
    if SCORED:
        if not EVEN:
            y = tl.where(mask, y, float('-inf'))
        largest = tl.max(ordered(y.to(tl.int32, bitcast=True)), axis=0)
        tl.store(maxima, ordered(largest).to(tl.float32, bitcast=True))


@triton.jit
def load_rows(B, C, x, NEXT: tl.constexpr, SHARED: tl.constexpr):
    """Return the words of two tokens' B and C, (2, 2, words).

    With 16 states a word a thread: one load of a warp.
    """
    words = x
    if SHARED:
        which = tl.arange(0, 2)[None, :, None]
        token = tl.arange(0, 2)[:, None, None]
        at = tl.where(which == 0, B[None, None, :], C[None, None, :])
        words = tl.load(at + token * NEXT)
    return words


@triton.jit
def spread_rows(words):
    """Return B, B, C, C of two tokens in float32 from their words.

    A thread unpacks its own word; the compiler takes the values to all
    threads through shared memory, four a load. Each thread unpacking all of
    them takes 32 instructions a token, this 14.
    """
    low = (words << 16).to(tl.float32, bitcast=True)
    high = (words & -65536).to(tl.float32, bitcast=True)
    values = tl.permute(tl.join(low, high), (2, 3, 0, 1))
    values = tl.reshape(values, (2 * words.shape[2], 2, 2))
    b, c = tl.split(values)
    b0, b1 = tl.split(b)
    c0, c1 = tl.split(c)
    return b0, b1, c0, c1


@triton.jit
def scan_pair(
    state,
    rates,
    skip,
    shift,
    x0,
    raw0,
    gate0,
    other0,
    x1,
    raw1,
    gate1,
    other1,
    rows,
    B,
    C,
    out,
    maxima,
    mask,
    row_mask,
    SIGN: tl.constexpr,
    DIM: tl.constexpr,
    BC_TOKEN: tl.constexpr,
    HAS_Z: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    ADDS: tl.constexpr,
    SCORED: tl.constexpr,
    EXACT: tl.constexpr,
    PACKED: tl.constexpr,
    SHARED: tl.constexpr,
    EVEN: tl.constexpr,
):
    """Scan two tokens that were loaded before; B, C, out are at the first."""
    if SHARED:
        b0, b1, c0, c1 = spread_rows(rows)
    else:
        b0 = load_states(B, row_mask, PACKED, EVEN)
        c0 = load_states(C, row_mask, PACKED, EVEN)
        b1 = load_states(B + SIGN * BC_TOKEN, row_mask, PACKED, EVEN)
        c1 = load_states(C + SIGN * BC_TOKEN, row_mask, PACKED, EVEN)
    state, y0 = scan_token(
        state, rates, skip, shift, x0, raw0, b0, c0, SOFTPLUS, EXACT
    )
    state, y1 = scan_token(
        state, rates, skip, shift, x1, raw1, b1, c1, SOFTPLUS, EXACT
    )
    store_largest(maxima, y0, mask, SCORED, EVEN)
    store_largest(maxima + SIGN, y1, mask, SCORED, EVEN)
    y0 = gated(y0, gate0, other0, HAS_Z, ADDS)
    y1 = gated(y1, gate1, other1, HAS_Z, ADDS)
    store(out, y0, mask, EVEN)
    store(out + SIGN * DIM, y1, mask, EVEN)
    return state
