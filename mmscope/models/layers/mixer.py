"""The bidirectional Mamba mixer of ViM and its residual block."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmscope.models.layers.drop_path import DropPath
from mmscope.models.layers.initial_values import is_overwritten
from mmscope.models.layers.macs import block_macs
from mmscope.models.layers.norm import RMSNorm, add_and_norm
from mmscope.models.layers.plain import is_plain
from mmscope.models.layers.steps import PLAIN, Mixed, MixerPlan
from mmscope.models.layers.token_scores import SCORE_METRICS, direction_scores
from mmscope.ops import (
    DirectionModules,
    DirectionWeights,
    at_least_float32,
    bidirectional_inner,
)
from mmscope.ops.dispatch import check_backend

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 0.1, 1e-4
# Computed by the operator itself, without the outputs in memory.
FUSED_SCORES = ('max_norm',)


class BidirectionalMamba(BaseModule):
    """Selective state space mixer that scans forwards and backwards.

    ViM (arXiv:2401.09417), Algorithm 1. Both directions share the input and
    output projections; each has its own convolution, selection and decay.
    Parameter names are those of the released checkpoints: ``*_b`` belongs to
    the backward direction. Where somebody replaced or hooked a part of a
    direction (adapters, pruning, quantisation, hooks), the parts run one by
    one as modules; else one operator reads their weights.

    Args:
        embed_dims (int): Token channels D.
        num_layers (int): Depth of the network, scales ``out_proj``'s init.
        d_state (int): States N a channel. Defaults to 16.
        d_conv (int): Width of the causal convolution. Defaults to 4.
        expand (int): d_inner = expand * D. Defaults to 2.
        dt_rank (int | None): Rank of the step-size projection, ceil(D / 16)
            if None. Defaults to None.
        average_directions (bool): Halve the sum of the two directions, as
            ViM does and VideoMamba does not. Defaults to True.
        scan_backend (str): Backend of :mod:`mmscope.ops`. Defaults to
            'auto'.

    Raises:
        ValueError: If no backend has this name.
    """

    score_metrics = SCORE_METRICS
    # Rates, and a skip: weight decay would pull them to other functions.
    no_decay = ('A_log', 'A_b_log', 'D', 'D_b')
    A_log: nn.Parameter
    A_b_log: nn.Parameter
    # Where a DyVM added it.
    block_head: nn.Module

    def __init__(
        self,
        embed_dims: int,
        num_layers: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | None = None,
        average_directions: bool = True,
        scan_backend: str = 'auto',
    ) -> None:
        super().__init__()
        self.embed_dims = embed_dims
        self.d_inner = expand * embed_dims
        self.d_state = d_state
        self.d_conv = d_conv
        self.dt_rank = dt_rank or math.ceil(embed_dims / 16)
        self.num_layers = num_layers
        self.average_directions = average_directions
        check_backend(scan_backend, with_auto=True)
        self.scan_backend = scan_backend
        self.in_proj = nn.Linear(embed_dims, 2 * self.d_inner, bias=False)
        for suffix in ('', '_b'):
            self._add_direction(suffix, d_conv)
        self.out_proj = nn.Linear(self.d_inner, embed_dims, bias=False)
        self.reset_parameters()

    def _add_direction(self, suffix: str, d_conv: int) -> None:
        dim = self.d_inner
        conv1d = nn.Conv1d(dim, dim, d_conv, groups=dim, padding=d_conv - 1)
        x_proj = nn.Linear(dim, self.dt_rank + 2 * self.d_state, bias=False)
        self.add_module(f'conv1d{suffix}', conv1d)
        self.add_module(f'x_proj{suffix}', x_proj)
        self.add_module(f'dt_proj{suffix}', nn.Linear(self.dt_rank, dim))
        a_log = torch.empty(dim, self.d_state)
        name = 'A_b_log' if suffix else 'A_log'
        self.register_parameter(name, nn.Parameter(a_log))
        self.register_parameter(f'D{suffix}', nn.Parameter(torch.empty(dim)))

    def reset_parameters(self) -> None:
        """Initialise both directions as the released ViM does its first.

        (There the biases of ``dt_proj_b`` become 0, steps of 0.69, because
        its initialisation of linear layers passes over ``dt_proj`` alone.)
        S4D-real decays A = -(1..N), D = 1, step sizes log-uniform in
        [1e-3, 0.1], ``out_proj`` Kaiming-uniform divided by sqrt(depth).
        """
        states = torch.arange(1, self.d_state + 1, dtype=torch.float32)
        with torch.no_grad():
            for suffix, a_log in (('', self.A_log), ('_b', self.A_b_log)):
                a_log.copy_(states.log().expand_as(a_log))
                getattr(self, f'D{suffix}').fill_(1.0)
                self._reset_dt(getattr(self, f'dt_proj{suffix}'))
            nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
            self.out_proj.weight /= math.sqrt(self.num_layers)

    def _reset_dt(self, dt_proj: nn.Linear) -> None:
        bound = self.dt_rank**-0.5
        nn.init.uniform_(dt_proj.weight, -bound, bound)
        log_min, log_max = math.log(DT_MIN), math.log(DT_MAX)
        log_dt = torch.empty(self.d_inner).uniform_(log_min, log_max)
        dt = log_dt.exp().clamp(min=DT_FLOOR)
        # The inverse of softplus, so that softplus(bias) = dt.
        dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def init_weights(self) -> None:
        """Give rates, steps and depth scaling back their special values.

        MMEngine calls this after an ``init_cfg`` of a module around, which
        may have treated ``dt_proj`` and ``out_proj`` as any linear layer,
        and before it loads pretrained weights. Where none has, the values
        of the construction, or loaded ones, stay.
        """
        overwritten = not self.is_init and self._is_overwritten()
        super().init_weights()
        if overwritten:
            self.reset_parameters()

    def _is_overwritten(self) -> bool:
        special = (
            *(getattr(self, name) for name in self.no_decay),
            *self.dt_proj.parameters(),
            *self.dt_proj_b.parameters(),
            *self.out_proj.parameters(),
        )
        return is_overwritten(self, special)

    def _direction(self, suffix: str) -> DirectionWeights | DirectionModules:
        conv1d = getattr(self, f'conv1d{suffix}')
        x_proj = getattr(self, f'x_proj{suffix}')
        dt_proj = getattr(self, f'dt_proj{suffix}')
        a_log = self.A_b_log if suffix else self.A_log
        skip = at_least_float32(getattr(self, f'D{suffix}'))
        plain = (
            is_plain(conv1d, nn.Conv1d)
            and is_plain(x_proj, nn.Linear)
            and is_plain(dt_proj, nn.Linear)
        )
        if not plain:
            return DirectionModules(conv1d, x_proj, dt_proj, a_log, skip)
        return DirectionWeights(
            conv1d.weight.squeeze(1),
            conv1d.bias,
            x_proj.weight,
            dt_proj.weight,
            at_least_float32(dt_proj.bias),
            a_log,
            skip,
        )

    def forward(self, x: Tensor, plan: MixerPlan = PLAIN) -> Mixed:
        """Mix tokens along the sequence, both ways.

        Args:
            x (Tensor): Tokens, (B, L, D).
            plan (MixerPlan): What else is wanted. Defaults to nothing.

        Returns:
            Mixed: Mixed tokens (B, L, D), scores and directions.
        """
        xz = self.in_proj(x)
        directions = None
        if plan.directions is not None:
            directions = plan.directions(xz)
        x, z = xz.chunk(2, -1)
        score: str | Callable[..., Tensor] | None = plan.score
        if plan.score is not None and plan.score not in FUSED_SCORES:
            score = partial(direction_scores, plan.score)
        y, scores = bidirectional_inner(
            x,
            z,
            self._direction(''),
            self._direction('_b'),
            score,
            self.scan_backend,
            directions=directions,
            mask=plan.mask,
            gaps=plan.gaps,
        )
        y = self.out_proj(y)
        if not self.average_directions:
            # Exact: the operators halve, and this is a power of two.
            y = 2.0 * y
        return Mixed(y, scores, directions)

    def macs(self, length: int, directions: int = 2) -> int:
        """Count the MACs for one sequence, see :func:`block_macs`."""
        return block_macs(
            length,
            self.embed_dims,
            self.d_inner,
            self.d_state,
            self.dt_rank,
            self.d_conv,
            directions,
        )


class MambaBlock(BaseModule):
    """Pre-norm residual block with a float32 residual stream.

    r <- r + droppath(x); x <- mixer(norm(r)).

    Args:
        embed_dims (int): Token channels D.
        drop_path_rate (float): Rate of the drop path on the incoming branch.
        residual_in_fp32 (bool): Keep the stream in float32. Defaults to
            True.
        **mixer (Any): Arguments of :class:`BidirectionalMamba`.
    """

    def __init__(
        self,
        embed_dims: int,
        drop_path_rate: float,
        residual_in_fp32: bool = True,
        **mixer: Any,
    ) -> None:
        super().__init__()
        self.residual_in_fp32 = residual_in_fp32
        self.drop_path = DropPath(drop_path_rate)
        self.norm = RMSNorm(embed_dims)
        self.mixer = BidirectionalMamba(embed_dims, **mixer)

    def forward(
        self, x: Tensor, residual: Tensor | None, plan: MixerPlan = PLAIN
    ) -> tuple[Tensor, Tensor, Mixed]:
        """Add the last branch to the stream and compute the next one.

        Args:
            x (Tensor): Output of the block before (or the embeddings),
                (B, L, D).
            residual (Tensor | None): Residual stream, (B, L, D) float32;
                None before the first block.
            plan (MixerPlan): See :class:`BidirectionalMamba`.

        Returns:
            tuple[Tensor, Tensor, Mixed]: The mixer's output, the stream, and
            all that the mixer gives.
        """
        normed, residual = add_and_norm(
            self.norm, self.drop_path(x), residual, self.residual_in_fp32
        )
        mixed = self.mixer(normed, plan)
        return mixed.tokens, residual, mixed
