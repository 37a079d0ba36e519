"""The protocol of token backbones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.model import ModuleList
from torch import Tensor, nn

from mmscope.models.backbones.arguments import (
    ARCH_DEFAULTS,
    check_choice,
    check_stride,
    resolve_arch,
    resolve_indices,
    to_2tuple,
)
from mmscope.models.backbones.block_loop import BlockLoop, Encoded
from mmscope.models.backbones.described import DescribedWeights
from mmscope.models.backbones.embedding import ImageEmbedding, to_map
from mmscope.models.backbones.parameters import NamedParameters
from mmscope.models.layers import (
    NO_STEPS,
    DropPath,
    Observed,
    PatchEmbed,
    PositionTable,
    RMSNorm,
    Steps,
    SummaryTokens,
    TokenSequence,
    check_rate,
    check_whole,
)
from mmscope.models.reduction import TokenReduction
from mmscope.registry import MODELS

OUT_TYPES = ('cls_token', 'featmap', 'avg_featmap', 'raw')
FEATURE_SOURCES = ('residual', 'mixer')


class TokenBackbone(
    Observed, BlockLoop, DescribedWeights, ImageEmbedding, NamedParameters
):
    """A plain stack of blocks over the tokens of an image.

    A family is a small subclass: it says which summary tokens there are, and
    makes its blocks (:meth:`make_block`) and its embeddings, where those are
    not ViM's. Everything else asks these methods.

    Args:
        arch (str | dict): See :class:`VisionMamba`.
        summary_tokens (SummaryTokens): Of the family.
        mixer (dict): What the family's blocks take beyond ``arch``.
        img_size (int | Sequence[int]): Side, or (height, width), in pixels.
        patch_size (int): Patch side in pixels.
        patch_stride (int | None): Pixels between patches; None for the side.
        in_channels (int): Image channels.
        out_indices (int | Sequence[int]): Blocks that give levels.
        out_type (str): 'cls_token', 'featmap', 'avg_featmap' or 'raw'.
        drop_path_rate (float): Largest stochastic-depth rate.
        feature_source (str): 'residual' or 'mixer'.
        last_norm (bool): Put the last level through the final norm.
        residual_in_fp32 (bool): Keep the residual stream in float32.
        reduction (dict | None): Token reduction.
        frozen_stages (int): -1 nothing, 0 the embeddings, i also i blocks.
        with_cp (bool): Compute blocks again for their gradients.
        init_cfg (dict | list | None): MMEngine initialisation.

    Raises:
        ValueError: If an argument is outside its set or range.
    """

    archs: dict[str, dict[str, int]]
    arch_defaults = ARCH_DEFAULTS
    score_metrics: tuple[str, ...] = ()
    # Whether anything but a level of features reads the last block.
    reads_last_block = False
    # Where a DyVM added them, one a stage.
    score_predictors: nn.ModuleList

    def __init__(
        self,
        arch: str | dict[str, Any],
        summary_tokens: SummaryTokens,
        *,
        mixer: dict[str, Any],
        img_size: int | Sequence[int],
        patch_size: int,
        patch_stride: int | None,
        in_channels: int,
        out_indices: int | Sequence[int],
        out_type: str,
        drop_path_rate: float,
        feature_source: str,
        last_norm: bool,
        residual_in_fp32: bool,
        reduction: dict[str, Any] | None,
        frozen_stages: int,
        with_cp: bool,
        init_cfg: dict[str, Any] | list[Any] | None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.arch = resolve_arch(arch, self.archs, self.arch_defaults)
        self.embed_dims = self.arch['embed_dims']
        self.img_size = to_2tuple(img_size)
        self.patch_size = patch_size
        self.patch_stride = check_stride(patch_stride, patch_size)
        self.in_channels = check_whole('in_channels', in_channels)
        check_rate('drop_path_rate', drop_path_rate)
        depth = self.arch['num_layers']
        self.out_indices = resolve_indices('out_indices', out_indices, depth)
        self.out_type = check_choice('out_type', out_type, OUT_TYPES)
        self.feature_source = check_choice(
            'feature_source', feature_source, FEATURE_SOURCES
        )
        self.last_norm = last_norm
        self.residual_in_fp32 = residual_in_fp32
        self.with_cp = with_cp
        self.summary_tokens = summary_tokens
        self.mixer_options = mixer
        if out_type == 'cls_token' and not summary_tokens.count:
            raise ValueError(
                "out_type='cls_token' needs a summary token, this backbone "
                "has none: set out_type='featmap' or summary_position"
            )
        self._tables: dict[str, PositionTable] = {}
        self.grid = self.grid_of(self.img_size)
        self.patch_embed = PatchEmbed(
            in_channels, self.embed_dims, patch_size, self.patch_stride
        )
        self._add_embeddings()
        # Block i takes entry i, the last add before the final norm the rate.
        last = max(depth - 1, 1)
        rates = [0.0] + [drop_path_rate * i / last for i in range(depth)]
        self.layers = ModuleList(self.make_block(rate) for rate in rates[:-1])
        self.drop_path = DropPath(drop_path_rate)
        self.norm_f = self.make_norm()
        if out_type == 'avg_featmap':
            self.norm_avg = self.make_norm()
        self._reset_embeddings()
        self.reduction = self._reduce_by(reduction)
        self._freeze(frozen_stages)
        self.num_run = self._leave_out_unused()

    @abstractmethod
    def make_block(self, drop_path_rate: float) -> nn.Module:
        """Make one block.

        It maps (tokens, residual, plan) to (tokens, residual, Mixed).
        """

    def make_norm(self) -> nn.Module:
        """Make the final norm."""
        return RMSNorm(self.embed_dims)

    def read_out(self, summary: Tensor) -> Tensor:
        """Turn summary tokens after the final norm into one vector.

        Args:
            summary (Tensor): (B, m, D).

        Returns:
            Tensor: (B, ``summary_dims``); what 'cls_token' gives, and what
            heads and exit heads judge by.
        """
        return summary[:, 0]

    @property
    def summary_dims(self) -> int:
        """Channels of :meth:`read_out`."""
        return self.embed_dims

    def read_out_macs(self) -> int:
        """Count the multiply-accumulates of :meth:`read_out`, 0 here."""
        return 0

    def _leave_out_unused(self) -> int:
        """Freeze what no output reads, and count the blocks that run.

        DDP wants a gradient of everything that is not frozen.
        """
        if self.out_type != 'featmap' or self.reads_last_block:
            return self.num_layers
        used = self.out_indices[-1] + 1
        unused: list[nn.Module] = list(self.layers)[used:]
        if unused:
            print_log(
                f'blocks {used} to {self.num_layers - 1} lie behind the last '
                f'of out_indices={self.out_indices}: they are frozen and, '
                'without a token reduction, do not run',
                logger='current',
            )
        if not self.last_norm:
            unused.append(self.norm_f)
        for module in unused:
            module.requires_grad_(False)
        return self.num_layers if self.reduction else used

    def _reduce_by(
        self, reduction: dict[str, Any] | None
    ) -> TokenReduction | None:
        if reduction is None:
            return None
        if self.out_type in ('avg_featmap', 'raw'):
            raise ValueError(
                f'out_type={self.out_type!r} gives all tokens or their mean, '
                'and a token reduction takes some out: use cls_token or '
                'featmap'
            )
        if not isinstance(reduction, dict) or 'type' not in reduction:
            raise ValueError(
                'reduction must be None or a dict with a type, such as '
                f"dict(type='mmscope.RMeeTo'), got {reduction!r}"
            )
        found = MODELS.build(reduction)
        if not isinstance(found, TokenReduction):
            raise ValueError(
                f'reduction of type {reduction["type"]!r} is a '
                f'{type(found).__name__}, not a token reduction: choose one, '
                "such as dict(type='mmscope.RMeeTo')"
            )
        found.install(self)
        return found

    def forward(self, imgs: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            imgs (Tensor): Normalised images, (B, C, H, W), any H and W not
                below one patch.

        Returns:
            tuple[Tensor, ...]: See ``out_type``.
        """
        encoded = self.encode_images(imgs)
        self.deliver(encoded.record)
        if self.out_type == 'raw':
            return (encoded.tokens,)
        if self.out_type == 'avg_featmap':
            patches = encoded.sequence.patches(encoded.tokens)
            return (self.norm_avg(patches.mean(1)),)
        grid = encoded.sequence.grid
        maps = [to_map(level, grid) for level in encoded.levels]
        summary = encoded.sequence.summary(encoded.tokens)
        vector = self.read_out(summary) if summary.shape[1] else None
        return self.output(vector, maps, imgs.shape[-2:])

    def encode_images(self, imgs: Tensor) -> Encoded:
        """Embed images in one sequence and encode it, all tokens of it."""
        padded, grid = self.pad(imgs), self.grid_of(imgs.shape[-2:])
        sequence = TokenSequence.plain(
            *self.embed(padded), self.summary_tokens, grid
        )
        return self.encode(sequence, self.start(sequence))

    def start(self, sequence: TokenSequence) -> Steps:
        """Say what accompanies a pass over a sequence of all patches."""
        if self.reduction is None:
            return NO_STEPS
        return self.reduction.start(self, sequence)

    def output(
        self,
        vector: Tensor | None,
        maps: Sequence[Tensor],
        size: Sequence[int],
    ) -> tuple[Tensor, ...]:
        """Turn the result of a pass into what ``out_type`` asks for.

        Args:
            vector (Tensor | None): Of the summary tokens, (B,
                ``summary_dims``).
            maps (Sequence[Tensor]): Levels of the padded images.
            size (Sequence[int]): (H, W) of the images before the padding.

        Returns:
            tuple[Tensor, ...]: The vector, or the levels without the
            padding.
        """
        if self.out_type == 'cls_token':
            assert vector is not None, 'the constructor wants summary tokens'
            return (vector,)
        return self.crop(maps, size)

    def layer_macs(self, length: int, directions: int = 2) -> int:
        """Count a block's MACs, the scan's operations included."""
        return self.layers[0].mixer.macs(length, directions)
