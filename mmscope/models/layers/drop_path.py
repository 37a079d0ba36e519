"""Stochastic depth."""

from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """Drop a residual branch for whole samples (arXiv:1603.09382).

    Args:
        drop_prob (float): Probability in [0, 1) that a sample loses the
            branch. Defaults to 0.
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= drop_prob < 1.0:
            raise ValueError(f'drop_prob must lie in [0, 1), got {drop_prob}')
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Scale the surviving samples so that the mean is unchanged.

        Args:
            x (Tensor): (B, ...).

        Returns:
            Tensor: Same shape; equal to ``x`` in evaluation.
        """
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1.0 - self.drop_prob
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1))
        return x * mask.bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        """Show the rate in ``repr``."""
        return f'drop_prob={self.drop_prob:.3f}'
