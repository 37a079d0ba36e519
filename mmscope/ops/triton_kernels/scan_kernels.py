"""Forward kernel of the selective scan: one direction, whole or in spans.

The grid is (blocks of channels, sequences, spans). A span is a run of tokens
by place, whatever the direction; the sequence is one span where it is not
cut. ``states`` holds the state before each chunk of tokens in the order of
the scan, which the backward starts from.
"""
# ruff: noqa: ANN001, ANN201 (Triton gives annotations a meaning of its own)

import triton
import triton.language as tl

from .scan_pairs import load_rows, load_token, scan_pair, store_largest
from .steps import (
    gated,
    load,
    load_channels,
    load_rates,
    load_states,
    own_tile,
    scan_token,
    state_rows,
    store,
)

# Tokens of a turn of the loop, in two pairs; must divide a chunk.
GROUP = tl.constexpr(4)


@triton.jit
def save_state(
    states,
    state,
    tile,
    tile_mask,
    token,
    is_first,
    ENTRY: tl.constexpr,
    CHUNK: tl.constexpr,
    SIZE: tl.constexpr,
    EVEN: tl.constexpr,
):
    """Write the state before a token with which a chunk begins."""
    if is_first | (token % CHUNK == ENTRY):
        slot = states + (token // CHUNK).to(tl.int64) * SIZE
        store(slot + tile, state, tile_mask, EVEN)


@triton.jit
def scan_few(
    state,
    rates,
    skip,
    shift,
    u,
    delta,
    z,
    B,
    C,
    out,
    maxima,
    states,
    tile,
    mask,
    row_mask,
    tile_mask,
    token,
    count,
    SIGN: tl.constexpr,
    DIM: tl.constexpr,
    SIZE: tl.constexpr,
    BC_TOKEN: tl.constexpr,
    Z_TOKEN: tl.constexpr,
    HAS_Z: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    ADDS: tl.constexpr,
    SCORED: tl.constexpr,
    SAVES: tl.constexpr,
    EXACT: tl.constexpr,
    PACKED: tl.constexpr,
    EVEN: tl.constexpr,
    CHUNK: tl.constexpr,
    ENTRY: tl.constexpr,
):
    """Scan the tokens that fill no group, one by one; return the state."""
    for i in range(count):
        if SAVES:
            save_state(
                states,
                state,
                tile,
                tile_mask,
                token + i * SIGN,
                (i == 0) & (SIGN < 0),
                ENTRY,
                CHUNK,
                SIZE,
                EVEN,
            )
        x, raw, gate, other = load_token(
            u, delta, z, out, mask, HAS_Z, ADDS, EVEN
        )
        b = load_states(B, row_mask, PACKED, EVEN)
        c = load_states(C, row_mask, PACKED, EVEN)
        state, y = scan_token(
            state, rates, skip, shift, x, raw, b, c, SOFTPLUS, EXACT
        )
        store_largest(maxima, y, mask, SCORED, EVEN)
        store(out, gated(y, gate, other, HAS_Z, ADDS), mask, EVEN)
        u += SIGN * DIM
        delta += SIGN * DIM
        out += SIGN * DIM
        z += SIGN * Z_TOKEN
        B += SIGN * BC_TOKEN
        C += SIGN * BC_TOKEN
        maxima += SIGN
    return state


@triton.jit
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
    maxima,
    states,
    carries,
    seqlen,
    span,
    maxima_block,
    bc_batch,
    z_batch,
    DIM: tl.constexpr,
    D_STATE: tl.constexpr,
    BC_TOKEN: tl.constexpr,
    Z_TOKEN: tl.constexpr,
    ALIGN: tl.constexpr,
    REVERSE: tl.constexpr,
    HAS_D: tl.constexpr,
    HAS_Z: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    ADDS: tl.constexpr,
    SCORED: tl.constexpr,
    IS_CUT: tl.constexpr,
    SAVES: tl.constexpr,
    EXACT: tl.constexpr,
    PACKED: tl.constexpr,
    EVEN: tl.constexpr,
    CHUNK: tl.constexpr,
    CHANNELS: tl.constexpr,
    STATES: tl.constexpr,
):
    """Scan one direction: u, delta, out (batch, seqlen, dim).

    ``ADDS``: ``out`` holds the other direction's output, and the mean of the
    two is written. Tokens go by groups of four, in two pairs: while one pair
    is computed, the next one's inputs are on their way.
    """
    SIGN: tl.constexpr = 1 - 2 * REVERSE
    # Two channels a thread unpack B and C for both, and have no registers
    # for those of two tokens at once.
    SHARED: tl.constexpr = PACKED and CHANNELS <= 32
    SIZE: tl.constexpr = D_STATE * DIM
    ENTRY: tl.constexpr = (CHUNK - 1) * REVERSE
    batch = tl.program_id(1).to(tl.int64)
    cols, mask, row_mask, tile_mask, tile = own_tile(
        DIM, D_STATE, CHANNELS, STATES
    )
    begin = tl.program_id(2) * span
    length = tl.minimum(span, seqlen - begin)
    groups = length // GROUP
    few = length % GROUP
    # Chunks begin with a group: what is left over comes last by place.
    token = begin + (groups * GROUP - 1) * REVERSE
    place = batch * seqlen + token
    u += place * DIM + cols
    delta += place * DIM + cols
    out += place * DIM + cols
    z += batch * z_batch + token.to(tl.int64) * Z_TOKEN
    z = tl.multiple_of(z, ALIGN) + cols
    B = state_rows(B, batch * bc_batch, token, STATES, BC_TOKEN, ALIGN, PACKED)
    C = state_rows(C, batch * bc_batch, token, STATES, BC_TOKEN, ALIGN, PACKED)
    maxima += tl.program_id(0).to(tl.int64) * maxima_block + place
    states += batch * tl.cdiv(seqlen, CHUNK) * SIZE
    rates = load_rates(A, tile, tile_mask, EVEN)
    skip = load_channels(D, cols, mask, HAS_D, EVEN)
    shift = load_channels(bias, cols, mask, HAS_BIAS, EVEN)
    state = tl.zeros((STATES, CHANNELS), tl.float32)
    if IS_CUT:
        carries += (batch * tl.num_programs(2) + tl.program_id(2)) * SIZE
        state = load(carries + tile, tile_mask, EVEN)
    if REVERSE:
        state = scan_few(
            state,
            rates,
            skip,
            shift,
            u + few * DIM,
            delta + few * DIM,
            z + few * Z_TOKEN,
            B + few * BC_TOKEN,
            C + few * BC_TOKEN,
            out + few * DIM,
            maxima + few,
            states,
            tile,
            mask,
            row_mask,
            tile_mask,
            token + few,
            few,
            SIGN,
            DIM,
            SIZE,
            BC_TOKEN,
            Z_TOKEN,
            HAS_Z,
            SOFTPLUS,
            ADDS,
            SCORED,
            SAVES,
            EXACT,
            PACKED,
            EVEN,
            CHUNK,
            ENTRY,
        )
    if groups > 0:
        u_at, delta_at, z_at, other, out_at = u, delta, z, out, out
        B_at, C_at, maxima_at, t = B, C, maxima, token
        x0, raw0, gate0, other0 = load_token(
            u_at, delta_at, z_at, other, mask, HAS_Z, ADDS, EVEN
        )
        x1, raw1, gate1, other1 = load_token(
            u_at + SIGN * DIM,
            delta_at + SIGN * DIM,
            z_at + SIGN * Z_TOKEN,
            other + SIGN * DIM,
            mask,
            HAS_Z,
            ADDS,
            EVEN,
        )
        rows0 = load_rows(B_at, C_at, x0, SIGN * BC_TOKEN, SHARED)
        for i in range(groups):
            if SAVES:
                save_state(
                    states,
                    state,
                    tile,
                    tile_mask,
                    t,
                    (i == 0) & (few == 0) & (SIGN < 0),
                    ENTRY,
                    CHUNK,
                    SIZE,
                    EVEN,
                )
            x2, raw2, gate2, other2 = load_token(
                u_at + 2 * SIGN * DIM,
                delta_at + 2 * SIGN * DIM,
                z_at + 2 * SIGN * Z_TOKEN,
                other + 2 * SIGN * DIM,
                mask,
                HAS_Z,
                ADDS,
                EVEN,
            )
            x3, raw3, gate3, other3 = load_token(
                u_at + 3 * SIGN * DIM,
                delta_at + 3 * SIGN * DIM,
                z_at + 3 * SIGN * Z_TOKEN,
                other + 3 * SIGN * DIM,
                mask,
                HAS_Z,
                ADDS,
                EVEN,
            )
            rows2 = load_rows(
                B_at + 2 * SIGN * BC_TOKEN,
                C_at + 2 * SIGN * BC_TOKEN,
                x2,
                SIGN * BC_TOKEN,
                SHARED,
            )
            state = scan_pair(
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
                rows0,
                B_at,
                C_at,
                out_at,
                maxima_at,
                mask,
                row_mask,
                SIGN,
                DIM,
                BC_TOKEN,
                HAS_Z,
                SOFTPLUS,
                ADDS,
                SCORED,
                EXACT,
                PACKED,
                SHARED,
                EVEN,
            )
            # The last group reads its own inputs again: none lie behind.
            ahead = tl.where(i + 1 < groups, GROUP * SIGN, 0)
            u_at += ahead * DIM
            delta_at += ahead * DIM
            other += ahead * DIM
            z_at += ahead * Z_TOKEN
            x0, raw0, gate0, other0 = load_token(
                u_at, delta_at, z_at, other, mask, HAS_Z, ADDS, EVEN
            )
            x1, raw1, gate1, other1 = load_token(
                u_at + SIGN * DIM,
                delta_at + SIGN * DIM,
                z_at + SIGN * Z_TOKEN,
                other + SIGN * DIM,
                mask,
                HAS_Z,
                ADDS,
                EVEN,
            )
            rows0 = load_rows(
                B_at + ahead * BC_TOKEN,
                C_at + ahead * BC_TOKEN,
                x0,
                SIGN * BC_TOKEN,
                SHARED,
            )
            state = scan_pair(
                state,
                rates,
                skip,
                shift,
                x2,
                raw2,
                gate2,
                other2,
                x3,
                raw3,
                gate3,
                other3,
                rows2,
                B_at + 2 * SIGN * BC_TOKEN,
                C_at + 2 * SIGN * BC_TOKEN,
                out_at + 2 * SIGN * DIM,
                maxima_at + 2 * SIGN,
                mask,
                row_mask,
                SIGN,
                DIM,
                BC_TOKEN,
                HAS_Z,
                SOFTPLUS,
                ADDS,
                SCORED,
                EXACT,
                PACKED,
                SHARED,
                EVEN,
            )
            out_at += GROUP * SIGN * DIM
            B_at += GROUP * SIGN * BC_TOKEN
            C_at += GROUP * SIGN * BC_TOKEN
            maxima_at += GROUP * SIGN
            t += GROUP * SIGN
    if not REVERSE:
        done = (groups * GROUP).to(tl.int64)
        scan_few(
            state,
            rates,
            skip,
            shift,
            u + done * DIM,
            delta + done * DIM,
            z + done * Z_TOKEN,
            B + done * BC_TOKEN,
            C + done * BC_TOKEN,
            out + done * DIM,
            maxima + done,
            states,
            tile,
            mask,
            row_mask,
            tile_mask,
            token + groups * GROUP,
            few,
            SIGN,
            DIM,
            SIZE,
            BC_TOKEN,
            Z_TOKEN,
            HAS_Z,
            SOFTPLUS,
            ADDS,
            SCORED,
            SAVES,
            EXACT,
            PACKED,
            EVEN,
            CHUNK,
            ENTRY,
        )
