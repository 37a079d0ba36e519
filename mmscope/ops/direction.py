"""The parameters of one direction of a bidirectional mixer."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class DirectionWeights(NamedTuple):
    """What one direction of the mixer does not share with the other.

    ``conv_weight`` (dim, width), ``conv_bias`` (dim,), ``x_proj`` (dt_rank +
    2 * d_state, dim), ``dt_proj`` (dim, dt_rank), ``dt_bias`` (dim,),
    ``A_log`` (dim, d_state), the logarithm of the decay rates, ``D`` (dim,).
    """

    conv_weight: Tensor
    conv_bias: Tensor
    x_proj: Tensor
    dt_proj: Tensor
    dt_bias: Tensor
    A_log: Tensor
    D: Tensor
