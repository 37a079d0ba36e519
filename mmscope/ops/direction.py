"""The parts of one direction of a bidirectional mixer."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .functional import causal_conv1d
from .library import CONV_BACKENDS
from .precision import at_least_float32


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

    def convolve(self, x: Tensor, reverse: bool, backend: str) -> Tensor:
        """Run convolution and SiLU, (batch, seqlen, dim) to the same."""
        has_conv = backend in ('reference', *CONV_BACKENDS)
        return causal_conv1d(
            x,
            self.conv_weight,
            self.conv_bias,
            reverse=reverse,
            # mamba-ssm's scan comes without a convolution of this layout.
            backend=backend if has_conv else 'auto',
        )

    def select(self, u: Tensor) -> Tensor:
        """Project to rank, B and C: (batch, seqlen, dt_rank + 2 d_state)."""
        return F.linear(u, self.x_proj)

    def step(self, dt: Tensor) -> tuple[Tensor, Tensor]:
        """Project to step sizes; the bias is left to the scan."""
        return F.linear(dt, self.dt_proj), self.dt_bias

    def biased_step(self, dt: Tensor) -> tuple[Tensor, Tensor]:
        """Project to step sizes and the bias that an idle step has."""
        return self.step(dt)


class DirectionModules(NamedTuple):
    """The same as modules, for those that somebody replaced or hooked.

    They run as modules do, so that an adapter, a pruning mask, a quantised
    kernel or a hook has its effect. ``conv1d`` is a depthwise ``nn.Conv1d``
    padded for causality, ``x_proj`` and ``dt_proj`` map the last axis.
    """

    conv1d: nn.Module
    x_proj: nn.Module
    dt_proj: nn.Module
    A_log: Tensor
    D: Tensor

    def convolve(self, x: Tensor, reverse: bool, backend: str) -> Tensor:
        """Run convolution and SiLU, (batch, seqlen, dim) to the same."""
        x = x.flip(1) if reverse else x
        # (batch, seqlen, dim) -> (batch, dim, seqlen)
        y = self.conv1d(x.transpose(1, 2))[..., : x.shape[1]]
        y = F.silu(y.transpose(1, 2))
        return y.flip(1) if reverse else y

    def select(self, u: Tensor) -> Tensor:
        """Project to rank, B and C: (batch, seqlen, dt_rank + 2 d_state)."""
        return self.x_proj(u)

    def step(self, dt: Tensor) -> tuple[Tensor, Tensor | None]:
        """Project to step sizes; the module adds its own bias."""
        return self.dt_proj(dt), None

    def biased_step(self, dt: Tensor) -> tuple[Tensor, Tensor]:
        """Project to step sizes and the bias that an idle step has.

        That is what the module makes of no input, whatever it is.
        """
        bias = self.dt_proj(torch.zeros_like(dt[:1, :1])).flatten()
        exact = torch.promote_types(bias.dtype, torch.float32)
        bias = bias.to(exact)
        return self.dt_proj(dt).to(exact) - bias, bias


Direction = DirectionWeights | DirectionModules


def decay_rates(a_log: Tensor) -> Tensor:
    """Turn logarithms into negative rates, float32 at least."""
    return -at_least_float32(a_log).exp()
