"""Multiply-accumulates of one block in closed form.

One MAC is one multiply-add of a convolution or a linear layer; the scan's
term already counts operations. See :mod:`mmscope.analysis.costs`.
"""

from __future__ import annotations


def scan_cost(
    tokens: int, d_inner: int, d_state: int, directions: int = 1
) -> int:
    """Count the operations of the selective scan of one block.

    Args:
        tokens (int): Sequence length L.
        d_inner (int): Scanned channels.
        d_state (int): States N a channel.
        directions (int): Scans of the sequence. Defaults to 1.

    Returns:
        int: 9 * L * d_inner * N + 2 * L * d_inner for each direction.
    """
    one = 9 * tokens * d_inner * d_state + 2 * tokens * d_inner
    return directions * one


def block_macs(
    tokens: int,
    embed_dims: int,
    d_inner: int,
    d_state: int,
    dt_rank: int,
    d_conv: int,
    directions: int = 1,
) -> int:
    """Count the MACs of one bidirectional Mamba block.

    Args:
        tokens (int): Sequence length L.
        embed_dims (int): Token channels D.
        d_inner (int): Channels inside the mixer.
        d_state (int): States N a channel.
        dt_rank (int): Rank R of the step-size projection.
        d_conv (int): Width of the depthwise convolution.
        directions (int): Directions counted; the input and the output
            projection are shared by both. Defaults to 1.

    Returns:
        int: MACs, the scan's operations included.
    """
    projections = 2 * embed_dims * d_inner + d_inner * embed_dims
    selection = d_inner * (dt_rank + 2 * d_state) + dt_rank * d_inner
    per_direction = d_conv * d_inner + selection
    linear = tokens * (projections + directions * per_direction)
    return linear + scan_cost(tokens, d_inner, d_state, directions)
