"""The plain vision transformer of DeiT."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from mmscope.models.backbones.arguments import check_choice
from mmscope.models.backbones.token_backbone import TokenBackbone
from mmscope.models.layers import (
    AttentionBlock,
    GlobalAttention,
    LayerNorm,
    SummaryTokens,
)
from mmscope.registry import MODELS

SUMMARY_POSITIONS = ('first', 'none')
# mmpretrain's names of what lies outside the blocks.
RENAMED = {
    'ln1.': 'norm_f.',
    'ln2.': 'norm_avg.',
    'patch_embed.projection.': 'patch_embed.proj.',
}
HEAD_DIMS = 64


@MODELS.register_module()
class TokenViT(TokenBackbone):
    """Vision transformer with global attention, numerically DeiT.

    DeiT, arXiv:2012.12877. Weights of mmpretrain's ``VisionTransformer``
    load by their names; released ones go through the converter. What a scope
    scores by is the cls token's attention.

    Example::

        backbone = dict(type='mmscope.TokenViT', arch='small')

    Args:
        arch (str | dict): 'tiny', 'small', 'base', or a dict with
            ``embed_dims``, ``num_layers`` and optionally ``num_heads`` (one
            for 64 channels) and ``feedforward_channels`` (four times
            ``embed_dims``). Defaults to 'tiny'.
        img_size (int | Sequence[int]): See :class:`VisionMamba`. Defaults to
            224.
        patch_size (int): Patch side in pixels. Defaults to 16.
        in_channels (int): Image channels. Defaults to 3.
        out_indices (int | Sequence[int]): Blocks whose features are returned
            for 'featmap'. Defaults to -1.
        out_type (str): See :class:`VisionMamba`. Defaults to 'cls_token'.
        drop_path_rate (float): Largest stochastic-depth rate. Defaults to 0.
        frozen_stages (int): See :class:`VisionMamba`. Defaults to -1.
        init_cfg (dict | list | None): MMEngine initialisation. Defaults to
            None.
        patch_stride (int | None): Pixels between patches; None for
            ``patch_size``. Defaults to None.
        last_norm (bool): Put the last level of 'featmap' through the final
            norm. Defaults to True.
        residual_in_fp32 (bool): Keep the residual stream in float32 under
            mixed precision. Defaults to True.
        summary_position (str): 'first', or 'none', no cls token, for
            'featmap' alone. Defaults to 'first'.
        reduction (dict | None): Those that there are refuse this family.
            Defaults to None.
        with_cp (bool): Compute each block again for its gradients. Defaults
            to False.

    Raises:
        ValueError: If an argument is outside its set or range.
    """

    archs = {
        'tiny': {'embed_dims': 192, 'num_layers': 12},
        'small': {'embed_dims': 384, 'num_layers': 12},
        'base': {'embed_dims': 768, 'num_layers': 12},
    }
    arch_defaults = {
        'num_heads': lambda embed_dims: max(embed_dims // HEAD_DIMS, 1),
        'feedforward_channels': lambda embed_dims: 4 * embed_dims,
    }
    blocks = 'attention'
    family = 'ViT'
    # There are no directions.
    average_directions = False
    released_summary = SummaryTokens('first', 1)
    score_metrics = GlobalAttention.score_metrics

    def __init__(
        self,
        arch: str | dict[str, Any] = 'tiny',
        img_size: int | Sequence[int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        out_type: str = 'cls_token',
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        init_cfg: dict[str, Any] | list[Any] | None = None,
        *,
        patch_stride: int | None = None,
        last_norm: bool = True,
        residual_in_fp32: bool = True,
        summary_position: str = 'first',
        reduction: dict[str, Any] | None = None,
        with_cp: bool = False,
    ) -> None:
        check_choice('summary_position', summary_position, SUMMARY_POSITIONS)
        count = 0 if summary_position == 'none' else 1
        super().__init__(
            arch,
            SummaryTokens(summary_position, count),
            mixer={},
            img_size=img_size,
            patch_size=patch_size,
            patch_stride=patch_stride,
            in_channels=in_channels,
            out_indices=out_indices,
            out_type=out_type,
            drop_path_rate=drop_path_rate,
            feature_source='residual',
            last_norm=last_norm,
            residual_in_fp32=residual_in_fp32,
            reduction=reduction,
            frozen_stages=frozen_stages,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        # A block's second branch is added by the next one, with its rate.
        for block, follower in pairwise((*self.layers, self)):
            block.attn_drop_path.drop_prob = follower.drop_path.drop_prob

    def make_block(self, drop_path_rate: float) -> nn.Module:
        """Make a block of attention and feed-forward layers."""
        sizes = {k: v for k, v in self.arch.items() if k != 'num_layers'}
        return AttentionBlock(
            drop_path_rate=drop_path_rate,
            residual_in_fp32=self.residual_in_fp32,
            **sizes,
        )

    def make_norm(self) -> nn.Module:
        """Make the final norm."""
        return LayerNorm(self.embed_dims)

    def layer_macs(self, length: int, directions: int = 2) -> int:
        """Count the MACs of one block; it has no directions."""
        return self.layers[0].macs(length)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: object
    ) -> None:
        for theirs, ours in RENAMED.items():
            for key in [
                k for k in state_dict if k.startswith(prefix + theirs)
            ]:
                name = ours + key[len(prefix + theirs) :]
                state_dict[prefix + name] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)
