"""What DyVM adds to a backbone: predictors of patches and of directions."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmscope.models.layers import is_overwritten

# All directions run at the start: sigmoid(5) = 0.993.
ALL_ON = 5.0


class ScorePredictor(BaseModule):
    """Says for each patch how likely it is to be kept.

    DyVM (arXiv:2504.04787), after DynamicViT. One half of the channels stays
    a patch's own, the other half is replaced by its mean over the patches
    alive, with the number alive + 1 as divisor.

    Args:
        embed_dims (int): Channels D, a multiple of 4.

    Raises:
        ValueError: If the channels cannot be quartered.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        if embed_dims % 4:
            raise ValueError(
                "DyVM's predictors quarter the channels: embed_dims must be "
                f'a multiple of 4, got {embed_dims}'
            )
        half, quarter = embed_dims // 2, embed_dims // 4
        self.in_conv = nn.Sequential(
            nn.LayerNorm(embed_dims),
            nn.Linear(embed_dims, embed_dims),
            nn.GELU(),
        )
        self.out_conv = nn.Sequential(
            nn.Linear(embed_dims, half),
            nn.GELU(),
            nn.Linear(half, quarter),
            nn.GELU(),
            nn.Linear(quarter, 2),
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise: truncated normal of 0.02, biases 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    def init_weights(self) -> None:
        """Keep these values where an ``init_cfg`` around has others."""
        overwritten = not self.is_init and is_overwritten(
            self, self.parameters()
        )
        super().init_weights()
        if overwritten:
            self.reset_parameters()

    def forward(self, x: Tensor, alive: Tensor | None = None) -> Tensor:
        """Score patches.

        Args:
            x (Tensor): Patches, (B, k, D).
            alive (Tensor | None): 1 for those that count, (B, k); None for
                all. Defaults to None.

        Returns:
            Tensor: Logarithms of P(keep) and P(drop), (B, k, 2), float32.
        """
        norm: Any = self.in_conv[0]
        x = self.in_conv(x.to(norm.weight.dtype))
        own, shared = x.chunk(2, -1)
        count: int | Tensor
        if alive is None:
            total, count = shared.sum(1, keepdim=True), x.shape[1]
        else:
            weight = alive[..., None].to(x.dtype)
            total = (shared * weight).sum(1, keepdim=True)
            count = alive.sum(1)[:, None, None]
        shared = (total / (count + 1)).to(x.dtype).expand_as(shared)
        logits = self.out_conv(torch.cat([own, shared], -1))
        return logits.float().log_softmax(-1)

    @staticmethod
    def macs(embed_dims: int, patches: int) -> int:
        """Count the multiply-accumulates for patches of one image."""
        half, quarter = embed_dims // 2, embed_dims // 4
        weights = embed_dims * (embed_dims + half) + half * quarter
        return patches * (weights + 2 * quarter)


class BlockHead(nn.Linear):
    """Says which of its two directions a mixer runs for an image.

    Args:
        in_features (int): Channels that the mixer's input projection gives.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__(in_features, 2)

    def reset_parameters(self) -> None:
        """Let both directions run, whatever the image."""
        nn.init.zeros_(self.weight)
        nn.init.constant_(self.bias, ALL_ON)

    def init_weights(self) -> None:
        """Keep these values where an ``init_cfg`` around has others."""
        if is_overwritten(self, self.parameters()):
            self.reset_parameters()
