"""RMSNorm, in the form the released ViM uses."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Root-mean-square normalisation with a learned scale.

    Source: Zhang and Sennrich, arXiv:1910.07467, Eq. 4. The statistics are
    computed in float32 whatever the input is.

    Args:
        dim (int): Channels D.
        eps (float): Added to the mean square. Defaults to 1e-5.
    """

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
        x = x.float()
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return (x * scale).to(self.weight.dtype) * self.weight

    def extra_repr(self) -> str:
        """Show the size in ``repr``."""
        return f'{self.weight.numel()}, eps={self.eps}'
