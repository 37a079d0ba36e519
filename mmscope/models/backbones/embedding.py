"""From images of any size to tokens with positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmscope.models.layers import (
    PatchEmbed,
    PositionTable,
    SummaryTokens,
    pad_to_size,
    resize_pos_embed,
)

POSITIONS = 'pos_embed'
# Standard deviation of a unit normal that is cut at two deviations.
TRUNCATED_STD = 0.87962566103423978


class ImageEmbedding(BaseModule):
    """Grids, padding, patches, summary tokens and position tables.

    A subclass sets the attributes below before it adds tables. By default
    the summary tokens are ``cls_token``, and one table has the positions of
    all tokens.
    """

    # Both sides of the grid are multiples of it.
    grid_multiple = 1
    embed_dims: int
    in_channels: int
    patch_size: int
    patch_stride: int
    patch_embed: PatchEmbed
    summary_tokens: SummaryTokens
    _tables: dict[str, PositionTable]

    def num_cells(self, side: int) -> int:
        """Count the patches along a side of so many pixels, padded."""
        missing = max(side - self.patch_size, 0)
        return -(-missing // self.patch_stride) + 1

    def grid_of(self, size: Sequence[int]) -> tuple[int, int]:
        """Patch grid (rows, columns) of an image (H, W) after padding."""
        unit = self.grid_multiple
        rows, columns = (
            -(-self.num_cells(side) // unit) * unit for side in size
        )
        return rows, columns

    def pixels_of(self, grid: Sequence[int]) -> tuple[int, int]:
        """Size (H, W) of the image that a grid (rows, columns) covers."""
        height, width = (
            (cells - 1) * self.patch_stride + self.patch_size for cells in grid
        )
        return height, width

    def pad(self, imgs: Tensor) -> Tensor:
        """Pad images (B, C, H, W) with zeros to whole cells of the grid.

        Raises:
            ValueError: If they are no images that fit the backbone.
        """
        self.check_images(imgs)
        return pad_to_size(imgs, self.pixels_of(self.grid_of(imgs.shape[-2:])))

    def _add_embeddings(self) -> None:
        """Add summary tokens and position tables, without values."""
        if count := self.summary_tokens.count:
            shape = 1, count, self.embed_dims
            self.cls_token = nn.Parameter(torch.empty(shape))
        self.add_table(
            POSITIONS, PositionTable(self.grid, self.summary_tokens)
        )

    def _reset_embeddings(self) -> None:
        """Give them, and the patch convolution, their initial values."""
        for name in self.embedding_names():
            if name in self._parameters:
                nn.init.trunc_normal_(getattr(self, name), std=0.02)
        # LeCun-normal: variance 1 / fan_in, truncated at two deviations.
        proj = self.patch_embed.proj
        std = proj.weight[0].numel() ** -0.5 / TRUNCATED_STD
        nn.init.trunc_normal_(proj.weight, std=std, a=-2 * std, b=2 * std)
        if proj.bias is not None:
            nn.init.zeros_(proj.bias)

    def summary_embedding(self, position: Tensor) -> Tensor:
        """Add the position (1, m, D) to the summary tokens: (1, m, D)."""
        return self.cls_token + position

    def embedding_names(self) -> tuple[str, ...]:
        """Names of parameters and modules that embed images."""
        cls = ('cls_token',) if self.summary_tokens.count else ()
        return ('patch_embed', *cls, *self.position_tables())

    def add_table(self, name: str, table: PositionTable) -> None:
        """Add a parameter of position embeddings, without values."""
        self._tables[name] = table
        entries = torch.empty(1, table.num_entries, self.embed_dims)
        self.register_parameter(name, nn.Parameter(entries))

    def position_tables(self) -> dict[str, PositionTable]:
        """Tables of position embeddings by the name of their parameter."""
        return dict(self._tables)

    def position(
        self, grid: tuple[int, int], table: str = POSITIONS
    ) -> tuple[Tensor, Tensor]:
        """Position embedding for a grid.

        Args:
            grid (tuple[int, int]): Rows and columns.
            table (str): Which one. Defaults to 'pos_embed'.

        Returns:
            tuple[Tensor, Tensor]: Of the patches (1, h * w, D) and of the
            summary tokens (1, m, D).
        """
        known = self._tables[table]
        entries = resize_pos_embed(
            getattr(self, table), known.grid, grid, known.summary
        )
        return known.summary.split(entries)

    def embed(
        self, imgs: Tensor, table: str = POSITIONS
    ) -> tuple[Tensor, Tensor]:
        """Embed images, positions included.

        Args:
            imgs (Tensor): Padded images, (B, C, H, W).
            table (str): Position table of their grid. Defaults to
                'pos_embed'.

        Returns:
            tuple[Tensor, Tensor]: Patches (B, h * w, D) in raster order, and
            summary tokens (B, m, D).

        Raises:
            ValueError: If images and weights have other dtypes, and nothing
                brings them together.
        """
        height, width = imgs.shape[-2:]
        grid = (self.num_cells(height), self.num_cells(width))
        patch_pos, summary_pos = self.position(grid, table)
        patches = self._patches(imgs) + patch_pos
        if not self.summary_tokens.count:
            return patches, patches[:, :0]
        summary = self.summary_embedding(summary_pos)
        summary = summary.expand(len(patches), -1, -1)
        return patches, summary.to(patches.dtype)

    def _patches(self, imgs: Tensor) -> Tensor:
        try:
            return self.patch_embed(imgs)
        except torch.cuda.OutOfMemoryError:
            raise
        # Asked afterwards: autocast and FSDP bring dtypes together.
        except RuntimeError as error:
            weight = getattr(self.patch_embed.proj, 'weight', imgs)
            if weight.dtype == imgs.dtype:
                raise
            raise ValueError(
                f'images of {imgs.dtype} meet weights of {weight.dtype}: '
                f'give images.to({weight.dtype}), convert the model, or run '
                'it under torch.autocast'
            ) from error

    def embed_macs(self, patches: int) -> int:
        """Count the multiply-accumulates of the patch convolution."""
        pixels = self.in_channels * self.patch_size**2
        return patches * pixels * self.embed_dims

    def crop(
        self, maps: Sequence[Tensor], size: Sequence[int]
    ) -> tuple[Tensor, ...]:
        """Cut the cells off that padding alone filled.

        Args:
            maps (Sequence[Tensor]): (B, D, h, w) each.
            size (Sequence[int]): (H, W) of the images before the padding.

        Returns:
            tuple[Tensor, ...]: (B, D, h', w') each.
        """
        rows, columns = map(self.num_cells, size)
        return tuple(x[..., :rows, :columns].contiguous() for x in maps)

    def check_images(self, imgs: Tensor) -> None:
        """Refuse input that is not a batch of images.

        Raises:
            TypeError: If it is no tensor.
            ValueError: If the rank, the channels or the size do not fit.
        """
        check_batch(imgs, self.in_channels)
        if min(imgs.shape[-2:]) < self.patch_size:
            raise ValueError(
                f'image of {imgs.shape[-2]} x {imgs.shape[-1]} pixels is '
                f'smaller than one patch of {self.patch_size}; resize it or '
                'set backbone.patch_size'
            )


def check_batch(imgs: Tensor, in_channels: int) -> None:
    """Refuse input that is not a batch of images, of any size.

    Args:
        imgs (Tensor): What came.
        in_channels (int): Channels C of (B, C, H, W).

    Raises:
        TypeError: If it is no tensor.
        ValueError: If the rank, the channels or the dtype do not fit.
    """
    if not isinstance(imgs, Tensor):
        raise TypeError(
            f'expected images as a tensor (B, {in_channels}, H, W), got '
            f'{type(imgs).__name__}; paths and pictures go to '
            'mmscope.inference.TwoStageEngine'
        )
    if imgs.ndim != 4 or imgs.shape[1] != in_channels:
        raise ValueError(
            f'expected images (B, {in_channels}, H, W), got '
            f'{tuple(imgs.shape)}; load images with {in_channels} channels '
            'or set backbone.in_channels'
        )
    if not imgs.is_floating_point():
        raise ValueError(
            f'expected images of normalised floats, got {imgs.dtype}; let '
            "the model's data_preprocessor normalise them, or call .float()"
        )


def to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Turn raster tokens (B, h * w, D) into a map (B, D, h, w)."""
    batch, _, dims = tokens.shape
    return tokens.transpose(1, 2).reshape(batch, dims, *grid)
