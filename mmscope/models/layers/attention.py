"""Global attention and its residual block, as in ViT and DeiT."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmscope.models.layers.drop_path import DropPath
from mmscope.models.layers.norm import LayerNorm, add_and_norm
from mmscope.models.layers.steps import PLAIN, Mixed, MixerPlan

SCORE_METRICS = ('cls_attention',)


class GlobalAttention(nn.Module):
    """Multi-head attention between all tokens (ViT, arXiv:2010.11929).

    Parameter names are mmpretrain's.

    Args:
        embed_dims (int): Token channels D.
        num_heads (int): Heads, a divisor of D.

    Raises:
        ValueError: If the heads do not divide the channels.
    """

    score_metrics = SCORE_METRICS

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        if num_heads < 1 or embed_dims % num_heads:
            raise ValueError(
                f'num_heads={num_heads} does not divide embed_dims='
                f'{embed_dims}: choose a divisor, such as one of 64 channels'
            )
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor, plan: MixerPlan = PLAIN) -> Mixed:
        """Mix tokens by their likeness.

        Args:
            x (Tensor): Tokens, (B, L, D).
            plan (MixerPlan): Asks for scores. Defaults to nothing.

        Returns:
            Mixed: Mixed tokens (B, L, D), and scores.
        """
        # (B, L, 3 * D) -> three of (B, heads, L, D / heads)
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(query, key, value)
        y = self.proj(y.transpose(1, 2).flatten(2))
        scores = None if plan.score is None else cls_attention(query, key)
        return Mixed(y, scores)


def cls_attention(query: Tensor, key: Tensor) -> Tensor:
    """Score tokens by the attention that the first one pays to them.

    CF-ViT (arXiv:2203.03821), Eq. 4: the cls token's row of the attention,
    the mean of all heads.

    Args:
        query (Tensor): (B, heads, L, d).
        key (Tensor): (B, heads, L, d).

    Returns:
        Tensor: Scores, (B, L) float32 at least, without a gradient.
    """
    query, key = query[:, :, :1].detach(), key.detach()
    if query.dtype.itemsize < 4:
        query, key = query.float(), key.float()
    logits = (query * key).sum(-1) * query.shape[-1] ** -0.5
    return logits.softmax(-1).mean(1)


class FeedForward(nn.Module):
    """Two linear layers and a GELU; parameter names are mmpretrain's.

    Args:
        embed_dims (int): Token channels D.
        feedforward_channels (int): Channels in between.
    """

    def __init__(self, embed_dims: int, feedforward_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Sequential(
                nn.Linear(embed_dims, feedforward_channels), nn.GELU()
            ),
            nn.Linear(feedforward_channels, embed_dims),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map each token by itself, (B, L, D) to (B, L, D)."""
        return self.layers(x)


class AttentionBlock(BaseModule):
    """Pre-norm block of attention and feed-forward layers.

    r <- r + droppath(x); r <- r + droppath(attention(norm(r)));
    x <- feedforward(norm(r)): the last branch is added by who comes next.

    Args:
        embed_dims (int): Token channels D.
        drop_path_rate (float): Rate of the drop path on the incoming branch;
            that of ``attn_drop_path`` is set by who knows this block's.
        num_heads (int): Heads.
        feedforward_channels (int): Channels inside the feed-forward layers.
        residual_in_fp32 (bool): Keep the stream in float32. Defaults to
            True.
    """

    def __init__(
        self,
        embed_dims: int,
        drop_path_rate: float,
        num_heads: int,
        feedforward_channels: int,
        residual_in_fp32: bool = True,
    ) -> None:
        super().__init__()
        self.residual_in_fp32 = residual_in_fp32
        self.drop_path = DropPath(drop_path_rate)
        self.ln1 = LayerNorm(embed_dims)
        self.attn = GlobalAttention(embed_dims, num_heads)
        self.attn_drop_path = DropPath()
        self.ln2 = LayerNorm(embed_dims)
        self.ffn = FeedForward(embed_dims, feedforward_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as DeiT does: truncated normal of 0.02, biases 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(
        self, x: Tensor, residual: Tensor | None, plan: MixerPlan = PLAIN
    ) -> tuple[Tensor, Tensor, Mixed]:
        """Add the last branch to the stream and compute the next two.

        Args:
            x (Tensor): Output of the block before (or the embeddings),
                (B, L, D).
            residual (Tensor | None): Residual stream, (B, L, D) float32;
                None before the first block.
            plan (MixerPlan): See :class:`GlobalAttention`.

        Returns:
            tuple[Tensor, Tensor, Mixed]: The last branch, the stream, and
            the branch with what the attention gives beside it.
        """
        normed, residual = add_and_norm(
            self.ln1, self.drop_path(x), residual, self.residual_in_fp32
        )
        mixed = self.attn(normed, plan)
        branch = self.attn_drop_path(mixed.tokens)
        normed, residual = add_and_norm(
            self.ln2, branch, residual, self.residual_in_fp32
        )
        x = self.ffn(normed)
        return x, residual, mixed._replace(tokens=x)

    def macs(self, length: int) -> int:
        """Count the multiply-accumulates for one sequence.

        Args:
            length (int): Tokens L.

        Returns:
            int: L * (4 * D * D + 2 * D * F) of the linear layers with F
            channels in between, and 2 * L * L * D of the attention.
        """
        dims = self.ln1.weight.numel()
        linear = sum(
            layer.weight.numel()
            for layer in self.modules()
            if isinstance(layer, nn.Linear)
        )
        return length * linear + 2 * length**2 * dims
