"""Vision Mamba (ViM), numerically the released model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmscope.models.backbones.arguments import (
    check_choice,
    resolve_arch,
    resolve_indices,
    to_2tuple,
)
from mmscope.models.backbones.checkpoint import adapt_state_dict
from mmscope.models.layers import (
    MambaBlock,
    PatchEmbed,
    RMSNorm,
    add_residual,
    insert_token,
    pad_to_multiple,
    remove_token,
    resize_pos_embed,
)
from mmscope.models.layers.drop_path import DropPath
from mmscope.models.scoping import accumulate_scores
from mmscope.registry import MODELS

OUT_TYPES = ('cls_token', 'featmap')
FEATURE_SOURCES = ('residual', 'mixer')


@dataclass
class Encoded:
    """Output of the blocks for one sequence.

    Attributes:
        tokens (Tensor): After the final norm, (B, L, D).
        levels (list[Tensor]): One (B, L, D) for each out index.
        importance (Tensor | None): Running mean of token scores, (B, L).
    """

    tokens: Tensor
    levels: list[Tensor]
    importance: Tensor | None


@MODELS.register_module()
class VisionMamba(BaseModule):
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
        in_channels (int): Image channels. Defaults to 3.
        out_indices (int | Sequence[int]): Blocks whose features are
            returned for 'featmap'; negative ones count from the end.
            Defaults to -1.
        out_type (str): 'cls_token' returns (cls,) of shape (B, D); 'featmap'
            a tuple of maps (B, D, ceil(H / p), ceil(W / p)), one an out
            index. Defaults to 'cls_token'.
        drop_path_rate (float): Largest stochastic-depth rate. Defaults to 0.
        feature_source (str): 'residual' (residual stream plus mixer output)
            or 'mixer' (mixer output alone). Defaults to 'residual'.
        scan_backend (str): See :func:`mmscope.ops.selective_scan`. Defaults
            to 'auto'.
        frozen_stages (int): -1 freezes nothing, 0 the embeddings, i the
            embeddings and the first i blocks. Defaults to -1.
        init_cfg (dict | None): MMEngine initialisation. Defaults to None.

    Raises:
        ValueError: If an argument is outside its set or range.
    """

    stride_patches = 1

    def __init__(
        self,
        arch: str | dict = 'tiny',
        img_size: int | Sequence[int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        out_type: str = 'cls_token',
        drop_path_rate: float = 0.0,
        feature_source: str = 'residual',
        scan_backend: str = 'auto',
        frozen_stages: int = -1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        settings = resolve_arch(arch)
        self.embed_dims = settings.pop('embed_dims')
        self.num_layers = settings.pop('num_layers')
        self.patch_size = patch_size
        self.in_channels = in_channels
        self.out_indices = resolve_indices(out_indices, self.num_layers)
        self.out_type = check_choice('out_type', out_type, OUT_TYPES)
        self.feature_source = check_choice(
            'feature_source', feature_source, FEATURE_SOURCES
        )
        self.grid = self.grid_of(to_2tuple(img_size))
        self.patch_embed = PatchEmbed(in_channels, self.embed_dims, patch_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, self.embed_dims))
        entries = self.grid[0] * self.grid[1] + 1
        self.pos_embed = nn.Parameter(torch.empty(1, entries, self.embed_dims))
        # Block i takes entry i, the last add before the final norm the last.
        last = max(self.num_layers - 1, 1)
        rates = [0.0] + [
            drop_path_rate * i / last for i in range(self.num_layers)
        ]
        settings.update(num_layers=self.num_layers, scan_backend=scan_backend)
        self.layers = nn.ModuleList(
            MambaBlock(self.embed_dims, rate, **settings)
            for rate in rates[:-1]
        )
        self.drop_path = DropPath(rates[-1])
        self.norm_f = RMSNorm(self.embed_dims)
        self._reset_embeddings()
        self.frozen_stages = self._check_frozen(frozen_stages)
        self._freeze()

    # Sizes that cost formulas need.
    @property
    def d_inner(self) -> int:
        """Channels inside the mixer."""
        return self.layers[0].mixer.d_inner

    @property
    def d_state(self) -> int:
        """States N of a channel."""
        return self.layers[0].mixer.d_state

    @property
    def dt_rank(self) -> int:
        """Rank of the step-size projection."""
        return self.layers[0].mixer.dt_rank

    @property
    def d_conv(self) -> int:
        """Width of the causal convolution."""
        return self.layers[0].mixer.conv1d.kernel_size[0]

    def grid_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Patch grid (rows, columns) of an image after padding."""
        unit = self.stride_patches * self.patch_size
        rows, columns = (-(-side // unit) for side in size)
        return rows * self.stride_patches, columns * self.stride_patches

    def _reset_embeddings(self) -> None:
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        # LeCun-normal: variance 1 / fan_in, truncated at two deviations.
        proj = self.patch_embed.proj
        std = proj.weight[0].numel() ** -0.5 / 0.87962566103423978
        nn.init.trunc_normal_(proj.weight, std=std, a=-2 * std, b=2 * std)
        nn.init.zeros_(proj.bias)

    def _check_frozen(self, stages: int) -> int:
        if not -1 <= stages <= self.num_layers:
            raise ValueError(
                f'frozen_stages must lie in [-1, {self.num_layers}], '
                f'got {stages}'
            )
        return stages

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        self.cls_token.requires_grad_(False)
        self.pos_embed.requires_grad_(False)
        for module in self._frozen_modules():
            module.eval().requires_grad_(False)

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [self.patch_embed, *self.layers[: self.frozen_stages]]

    def train(self, mode: bool = True) -> VisionMamba:
        """Set the mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def get_layer_depth(
        self, param_name: str, prefix: str = ''
    ) -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning-rate decay.

        Args:
            param_name (str): Full name of the parameter.
            prefix (str): What stands before our own names, such as
                'backbone.'. Defaults to ''.

        Returns:
            tuple[int, int]: Depth (0 for embeddings, i + 1 for block i, the
            last one for the rest) and the number of depths.
        """
        num_depths = self.num_layers + 2
        if not param_name.startswith(prefix):
            return num_depths - 1, num_depths
        name = param_name[len(prefix) :]
        if name.startswith('layers.'):
            return int(name.split('.')[1]) + 1, num_depths
        embeds = ('patch_embed', 'cls_token', 'pos_embed', 'coarse_pos_embed')
        return (0 if name.startswith(embeds) else num_depths - 1), num_depths

    def check_images(self, imgs: Tensor) -> None:
        """Refuse input that is not a batch of images.

        Raises:
            ValueError: If the rank, the channels or the size do not fit.
        """
        if imgs.ndim != 4 or imgs.shape[1] != self.in_channels:
            raise ValueError(
                f'expected images (B, {self.in_channels}, H, W), got '
                f'{tuple(imgs.shape)}; load images with {self.in_channels} '
                'channels or set backbone.in_channels'
            )
        if min(imgs.shape[-2:]) < self.patch_size:
            raise ValueError(
                f'image of {imgs.shape[-2]} x {imgs.shape[-1]} pixels is '
                f'smaller than one patch of {self.patch_size}; resize it or '
                'set backbone.patch_size'
            )

    def position(self, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Position embedding for a fine grid.

        Returns:
            tuple[Tensor, Tensor]: Of the patches (1, h * w, D) and of cls
            (1, D).
        """
        pos_embed = resize_pos_embed(self.pos_embed, self.grid, grid)
        return remove_token(pos_embed, grid[0] * grid[1] // 2)

    def encode(
        self,
        x: Tensor,
        score: str | Callable[[Tensor], Tensor] | None = None,
        score_layers: Sequence[int] = (),
        momentum: float = 0.0,
    ) -> Encoded:
        """Run all blocks and the final norm.

        Args:
            x (Tensor): Embedded tokens, (B, L, D).
            score (str | Callable | None): See :class:`BidirectionalMamba`.
                Defaults to None.
            score_layers (Sequence[int]): Blocks that are scored.
            momentum (float): β of the running mean over scored blocks.

        Returns:
            Encoded: Tokens, levels (for 'featmap') and importance.
        """
        residual, importance, levels = None, None, []
        wanted = self.out_indices if self.out_type == 'featmap' else ()
        for i, block in enumerate(self.layers):
            scorer = score if i in score_layers else None
            x, residual, scores = block(x, residual, scorer)
            if scores is not None:
                importance = accumulate_scores(importance, scores, momentum)
            if i in wanted:
                levels.append(self._level(x, residual))
        tokens, _ = self.norm_f.add(self.drop_path(x), residual)
        if levels:
            levels[-1] = self.norm_f(levels[-1])
        return Encoded(tokens, levels, importance)

    def _level(self, x: Tensor, residual: Tensor) -> Tensor:
        if self.feature_source == 'mixer':
            return x
        return add_residual(x, residual)

    def forward(self, imgs: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            imgs (Tensor): Normalised images, (B, C, H, W), any H and W not
                below one patch.

        Returns:
            tuple[Tensor, ...]: See ``out_type``.
        """
        self.check_images(imgs)
        padded = pad_to_multiple(imgs, self.patch_size)
        grid = self.grid_of(imgs.shape[-2:])
        patch_pos, cls_pos = self.position(grid)
        x = self.patch_embed(padded) + patch_pos
        cls = (self.cls_token + cls_pos).expand(len(x), -1, -1)
        middle = grid[0] * grid[1] // 2
        encoded = self.encode(insert_token(x, cls.to(x.dtype), middle))
        if self.out_type == 'cls_token':
            return (encoded.tokens[:, middle],)
        crop = partial(crop_map, size=imgs.shape[-2:], patch=self.patch_size)
        patches = (remove_token(level, middle)[0] for level in encoded.levels)
        return tuple(crop(to_map(tokens, grid)) for tokens in patches)

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: object
    ) -> None:
        adapt_state_dict(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Turn raster tokens (B, h * w, D) into a map (B, D, h, w)."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)


def crop_map(x: Tensor, size: tuple[int, int], patch: int) -> Tensor:
    """Cut the cells off a map that padding alone filled."""
    rows, columns = (-(-side // patch) for side in size)
    return x[..., :rows, :columns].contiguous()
