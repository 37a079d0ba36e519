"""The bidirectional Mamba mixer of ViM and its residual block."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmscope.models.layers.drop_path import DropPath
from mmscope.models.layers.norm import RMSNorm
from mmscope.ops import DirectionWeights, bidirectional_inner

Score = str | Callable[[Tensor], Tensor]

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 0.1, 1e-4


class BidirectionalMamba(nn.Module):
    """Selective state space mixer that scans forwards and backwards.

    ViM (arXiv:2401.09417), Algorithm 1. Both directions share the input and
    output projections; each has its own convolution, selection and decay.
    Parameter names are those of the released checkpoints: ``*_b`` belongs to
    the backward direction.

    Args:
        embed_dims (int): Token channels D.
        num_layers (int): Depth of the network, scales ``out_proj``'s init.
        d_state (int): States N a channel. Defaults to 16.
        d_conv (int): Width of the causal convolution. Defaults to 4.
        expand (int): d_inner = expand * D. Defaults to 2.
        dt_rank (int | None): Rank of the step-size projection, ceil(D / 16)
            if None. Defaults to None.
        scan_backend (str): Backend of :mod:`mmscope.ops`. Defaults to
            'auto'.
    """

    def __init__(
        self,
        embed_dims: int,
        num_layers: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | None = None,
        scan_backend: str = 'auto',
    ) -> None:
        super().__init__()
        self.d_inner = expand * embed_dims
        self.d_state = d_state
        self.dt_rank = dt_rank or math.ceil(embed_dims / 16)
        self.num_layers = num_layers
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
        """Initialise as the released ViM does.

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

    def _weights(self, suffix: str) -> DirectionWeights:
        conv1d = getattr(self, f'conv1d{suffix}')
        dt_proj = getattr(self, f'dt_proj{suffix}')
        a_log = self.A_b_log if suffix else self.A_log
        return DirectionWeights(
            conv1d.weight.squeeze(1),
            conv1d.bias,
            getattr(self, f'x_proj{suffix}').weight,
            dt_proj.weight,
            dt_proj.bias.float(),
            a_log,
            getattr(self, f'D{suffix}').float(),
        )

    def forward(
        self, x: Tensor, score: Score | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Mix tokens along the sequence, both ways.

        Args:
            x (Tensor): Tokens, (B, L, D).
            score (Callable | str | None): Maps an ungated scan output
                (B, L, d_inner) to token scores (B, L); 'max_norm' is fast.
                Defaults to None.

        Returns:
            tuple[Tensor, Tensor | None]: Mixed tokens (B, L, D) and the mean
            score of the two directions (B, L), None without ``score``.
        """
        x, z = self.in_proj(x).chunk(2, -1)
        y, scores = bidirectional_inner(
            x,
            z,
            self._weights(''),
            self._weights('_b'),
            score,
            self.scan_backend,
        )
        return self.out_proj(y), scores


class MambaBlock(nn.Module):
    """Pre-norm residual block with a float32 residual stream.

    r <- r + droppath(x); x <- mixer(norm(r)).

    Args:
        embed_dims (int): Token channels D.
        drop_path_rate (float): Rate of the drop path on the incoming branch.
        **mixer (object): Arguments of :class:`BidirectionalMamba`.
    """

    def __init__(
        self, embed_dims: int, drop_path_rate: float, **mixer: object
    ) -> None:
        super().__init__()
        self.drop_path = DropPath(drop_path_rate)
        self.norm = RMSNorm(embed_dims)
        self.mixer = BidirectionalMamba(embed_dims, **mixer)

    def forward(
        self,
        x: Tensor,
        residual: Tensor | None,
        score: Score | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Add the last branch to the stream and compute the next one.

        Args:
            x (Tensor): Output of the block before (or the embeddings),
                (B, L, D).
            residual (Tensor | None): Residual stream, (B, L, D) float32;
                None before the first block.
            score (Callable | str | None): See :class:`BidirectionalMamba`.

        Returns:
            tuple[Tensor, Tensor, Tensor | None]: The mixer's output, the
            residual stream, the token scores.
        """
        normed, residual = self.norm.add(self.drop_path(x), residual)
        x, scores = self.mixer(normed, score)
        return x, residual, scores
