"""Vision Mamba (ViM), numerically the released model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from mmscope.models.backbones.arguments import ARCHS, check_choice
from mmscope.models.backbones.token_backbone import TokenBackbone
from mmscope.models.layers import (
    BidirectionalMamba,
    MambaBlock,
    RotarySteps,
    Steps,
    SummaryTokens,
    TokenSequence,
)
from mmscope.registry import MODELS

SUMMARY_POSITIONS = ('middle', 'first', 'none')


@MODELS.register_module()
class VisionMamba(TokenBackbone):
    """Vision Mamba with bidirectional blocks and cls in the middle.

    ViM, arXiv:2401.09417. Images of any size are padded to whole patches and
    feature maps cropped again; the position embedding is resized when the
    grid differs from that of ``img_size``.

    Example::

        backbone = dict(
            type='mmscope.VisionMamba',
            arch='tiny',
            img_size=512,
            out_type='featmap',
            out_indices=(5, 11, 17, 23),
        )

    Args:
        arch (str | dict): 'tiny', 'small', 'base', or a dict with
            ``embed_dims``, ``num_layers`` and optionally ``d_state``,
            ``d_conv``, ``expand``, ``dt_rank``. Defaults to 'tiny'.
        img_size (int | Sequence[int]): Side, or (height, width), in pixels
            that the position embedding is made for. Defaults to 224.
        patch_size (int): Patch side in pixels. Defaults to 16.
        patch_stride (int | None): Pixels from one patch to the next; 8 gives
            the released fine-grained ViM, 27 x 27 patches of a 224-pixel
            image. Defaults to None, ``patch_size``.
        in_channels (int): Image channels. Defaults to 3.
        out_indices (int | Sequence[int]): Blocks whose features are
            returned for 'featmap'; negative ones count from the end.
            Defaults to -1.
        out_type (str): 'cls_token' returns (cls,) of shape (B, D); 'featmap'
            a tuple of maps (B, D, ceil(H / p), ceil(W / p)), one an out
            index. As in mmpretrain, 'avg_featmap' returns (mean,), the mean
            of the patches after the final norm, normed once more, (B, D),
            and 'raw' (tokens,), all tokens after the final norm in the order
            of the sequence, (B, L, D). Defaults to 'cls_token'.
        drop_path_rate (float): Largest stochastic-depth rate. Defaults to 0.
        feature_source (str): 'residual' (residual stream plus mixer output)
            or 'mixer' (mixer output alone). Defaults to 'residual'.
        last_norm (bool): Put the last level of 'featmap' through the final
            norm, so that no parameter is unused. Defaults to True.
        residual_in_fp32 (bool): Keep the residual stream in float32 under
            mixed precision. Defaults to True.
        summary_position (str): 'middle' (ViM), 'first' (VideoMamba), or
            'none', no cls token, for 'featmap' alone. Defaults to 'middle'.
        average_directions (bool): Halve the sum of the two directions.
            Defaults to True.
        rope (bool): Turn tokens and residual stream before every block by
            rotary positions of their cells, beside the absolute ones, as
            ViM's released small segmentation and its detection models do
            (:class:`RotarySteps`); with no cls token, or one at the front.
            Defaults to False.
        reduction (dict | None): Token reduction. Defaults to None.
        scan_backend (str): See :func:`mmscope.ops.selective_scan`. Defaults
            to 'auto'.
        frozen_stages (int): -1 freezes nothing, 0 the embeddings, i the
            embeddings and the first i blocks. Defaults to -1.
        with_cp (bool): Keep no activations inside blocks in training and
            compute them again for the gradients. Defaults to False.
        init_cfg (dict | list | None): MMEngine initialisation. Defaults to
            None.

    Raises:
        ValueError: If an argument is outside its set or range.
    """

    archs = ARCHS
    blocks = 'mamba'
    family = 'ViM'
    # What a checkpoint has that does not say it.
    released_summary = SummaryTokens('middle', 1)
    score_metrics = BidirectionalMamba.score_metrics

    def __init__(
        self,
        arch: str | dict[str, Any] = 'tiny',
        img_size: int | Sequence[int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        out_type: str = 'cls_token',
        drop_path_rate: float = 0.0,
        feature_source: str = 'residual',
        scan_backend: str = 'auto',
        frozen_stages: int = -1,
        init_cfg: dict[str, Any] | list[Any] | None = None,
        *,
        patch_stride: int | None = None,
        last_norm: bool = True,
        residual_in_fp32: bool = True,
        summary_position: str = 'middle',
        average_directions: bool = True,
        rope: bool = False,
        reduction: dict[str, Any] | None = None,
        with_cp: bool = False,
    ) -> None:
        self.average_directions = average_directions
        self.rope = rope
        super().__init__(
            arch,
            self.summary_of(summary_position),
            mixer=dict(
                average_directions=average_directions,
                scan_backend=scan_backend,
            ),
            img_size=img_size,
            patch_size=patch_size,
            patch_stride=patch_stride,
            in_channels=in_channels,
            out_indices=out_indices,
            out_type=out_type,
            drop_path_rate=drop_path_rate,
            feature_source=feature_source,
            last_norm=last_norm,
            residual_in_fp32=residual_in_fp32,
            reduction=reduction,
            frozen_stages=frozen_stages,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        check_rope(self)

    def start(self, sequence: TokenSequence) -> Steps:
        """Turn tokens, or let a token reduction accompany them."""
        if self.rope:
            return RotarySteps(sequence, self.summary_tokens)
        return super().start(sequence)

    def summary_of(self, position: str) -> SummaryTokens:
        """Make the summary tokens that stand at ``summary_position``."""
        check_choice('summary_position', position, SUMMARY_POSITIONS)
        return SummaryTokens(position, 0 if position == 'none' else 1)

    def make_block(self, drop_path_rate: float) -> nn.Module:
        """Make a bidirectional Mamba block."""
        return MambaBlock(
            drop_path_rate=drop_path_rate,
            residual_in_fp32=self.residual_in_fp32,
            **self.arch,
            **self.mixer_options,
        )


def check_rope(backbone: VisionMamba) -> None:
    """Refuse what rotary positions do not fit.

    Raises:
        ValueError: If it is no bool, channels do not come in two halves of
            pairs, cls stands between the patches, or patches are dropped.
    """
    if backbone.rope is False:
        return
    if backbone.rope is not True:
        raise ValueError(f'rope must be True or False, got {backbone.rope!r}')
    if backbone.embed_dims % 4:
        raise ValueError(
            'rope=True turns pairs of channels by rows and by columns: '
            f'embed_dims must be a multiple of 4, got {backbone.embed_dims}'
        )
    place = backbone.summary_tokens.position
    if place not in ('none', 'first'):
        raise ValueError(
            "rope=True is that of ViM's segmentation and detection, which "
            f'have no cls token among the patches, got {place!r}: set '
            "summary_position='none' with out_type='featmap', or 'first'"
        )
    if backbone.reduction is not None:
        raise ValueError(
            'rope=True turns tokens by their cells in every block, and '
            f'{type(backbone.reduction).__name__} takes patches out between '
            'blocks: use one of them'
        )
