"""Norms: RMSNorm as the released ViM has it, LayerNorm as ViT has."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmscope.models.layers.plain import is_plain
from mmscope.ops import add_residual, add_rms_norm, rms_norm


class RMSNorm(nn.Module):
    """Root-mean-square normalisation with a learned scale.

    Source: Zhang and Sennrich, arXiv:1910.07467, Eq. 4. The statistics are
    computed in float32 whatever the input is.

    Args:
        dim (int): Channels D.
        eps (float): Added to the mean square. Defaults to 1e-5.
    """

    no_decay = ('weight',)

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis.

        Args:
            x (Tensor): (..., D).

        Returns:
            Tensor: (..., D) in the dtype of ``weight``, which the linear
            layers that follow expect.
        """
        return rms_norm(x, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Show the size in ``repr``."""
        return f'{self.weight.numel()}, eps={self.eps}'


class LayerNorm(nn.LayerNorm):
    """LayerNorm of ViT (eps 1e-6) in the dtype of its weights.

    Args:
        dim (int): Channels D.
        eps (float): Added to the variance. Defaults to 1e-6.
    """

    no_decay = ('weight',)

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__(dim, eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis of (..., D)."""
        # The residual stream may be of another dtype.
        return super().forward(x.to(self.weight.dtype))


def add_and_norm(
    norm: nn.Module,
    x: Tensor,
    residual: Tensor | None,
    in_fp32: bool = True,
) -> tuple[Tensor, Tensor]:
    """Add a branch to the residual stream, and normalise the stream.

    Args:
        norm (nn.Module): :class:`RMSNorm`, or what somebody put in its place.
        x (Tensor): Branch, (..., D).
        residual (Tensor | None): Stream; None if there is none yet.
        in_fp32 (bool): Keep the stream in float32 at least. Defaults to
            True.

    Returns:
        tuple[Tensor, Tensor]: The norm (..., D), and the stream.
    """
    if in_fp32 and is_plain(norm, RMSNorm):
        return add_rms_norm(x, residual, norm.weight, norm.eps)
    if in_fp32:
        stream = add_residual(x, residual)
    else:
        stream = x if residual is None else residual + x
    return norm(stream), stream
