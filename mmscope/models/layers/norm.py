"""RMSNorm, in the form the released ViM uses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmscope.ops import add_rms_norm, rms_norm


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
        return rms_norm(x, self.weight, self.eps)

    def add(self, x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        """Add a branch to the residual stream, and normalise the stream.

        Args:
            x (Tensor): Branch, (..., D).
            residual (Tensor | None): Stream; None if there is none yet.

        Returns:
            tuple[Tensor, Tensor]: The norm (..., D), and the stream in
            float32 (float64 stays, for checks).
        """
        return add_rms_norm(x, residual, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Show the size in ``repr``."""
        return f'{self.weight.numel()}, eps={self.eps}'
