"""What the two stages hand over, and what a forward leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from mmscope.models.layers import Record


@dataclass
class CoarseStage:
    """Output of the coarse stage; letters as in the module ``layout``.

    Attributes:
        grid (tuple[int, int]): Coarse grid (h, w).
        cls (Tensor): What is read out of the summary tokens after the final
            norm, (B, ``summary_dims``).
        tokens (Tensor): After the final norm, without summary tokens,
            (B, n, D).
        embeddings (Tensor): Patch plus position embedding, (B, n, D).
        importance (Tensor): (B, n).
        maps (tuple[Tensor, ...]): Levels at the fine stride,
            (B, D, 2h, 2w) each; empty unless out_type is 'featmap'.
        record (Record | None): What its blocks ran; None where somebody put
            the stage together from its state.
    """

    grid: tuple[int, int]
    cls: Tensor
    tokens: Tensor
    embeddings: Tensor
    importance: Tensor
    maps: tuple[Tensor, ...] = ()
    record: Record | None = None

    @property
    def ran(self) -> Record:
        """``record`` of a stage that did run."""
        assert self.record is not None
        return self.record

    def select(self, index: Tensor) -> CoarseStage:
        """Keep some images for the fine stage, by (B,) bool or indices."""
        return CoarseStage(
            self.grid,
            self.cls[index],
            self.tokens[index],
            self.embeddings[index],
            self.importance[index],
        )

    @classmethod
    def joined(cls, stages: Sequence[CoarseStage]) -> CoarseStage:
        """Put images of several batches into one for the fine stage.

        Args:
            stages (Sequence[CoarseStage]): Of images of one size.

        Returns:
            CoarseStage: Of all of them, without maps and record, which the
            fine stage does not ask for.
        """
        return cls(
            stages[0].grid,
            torch.cat([stage.cls for stage in stages]),
            torch.cat([stage.tokens for stage in stages]),
            torch.cat([stage.embeddings for stage in stages]),
            torch.cat([stage.importance for stage in stages]),
        )


@dataclass
class FineStage:
    """Output of the fine stage.

    Attributes:
        cls (Tensor): Read out of the summary tokens after the final norm,
            (B, ``summary_dims``).
        maps (tuple[Tensor, ...]): Levels, (B, D, 2h, 2w) each.
        refined (Tensor): Refined regions, (B, n) bool.
        record (Record): What its blocks ran; of the longest sequence where
            images refine different numbers of regions.
    """

    cls: Tensor
    maps: tuple[Tensor, ...]
    refined: Tensor
    record: Record


@dataclass
class PassRecord(Record):
    """Record of one pass of a backbone that knows of no records.

    ``lengths`` has one entry, the cells of its last map.

    Attributes:
        image_size (tuple[int, int]): (height, width) of the images.
        in_channels (int): Their channels.
    """

    image_size: tuple[int, int] = (0, 0)
    in_channels: int = 3

    @classmethod
    def of(cls, imgs: Tensor, output: object) -> PassRecord:
        """Make it.

        Args:
            imgs (Tensor): (B, C, H, W).
            output (object): What the backbone made of them: a tensor, or a
                sequence of which the last counts; other things are one cell.

        Returns:
            PassRecord: The record.
        """
        last = output[-1] if isinstance(output, (tuple, list)) else output
        cells = last.shape[2:].numel() if isinstance(last, Tensor) else 1
        height, width = imgs.shape[-2:]
        return cls([cells], [None], [], (height, width), imgs.shape[1])


@dataclass(kw_only=True)
class TwoStageRecord(Record):
    """What both kinds of records of a two-stage model have.

    Attributes:
        fine_lengths (list[int]): Tokens in each block of the fine stage,
            the longest sequence's, empty if nobody went on; ``lengths`` are
            the coarse stage's.
    """

    fine_lengths: list[int] = field(default_factory=list)


@dataclass(kw_only=True)
class StageOutputs(TwoStageRecord):
    """Record of a training forward: what losses need, with its graph.

    Attributes:
        coarse_cls (Tensor): (B, D).
        fine_cls (Tensor): (B, D).
        coarse_maps (tuple[Tensor, ...]): As an exit would give them.
        fine_maps (tuple[Tensor, ...]): The backbone's own output.
        coarse_features (Tensor | None): Patch tokens of the coarse stage
            after the final norm, (B, n, D).
        grid (tuple[int, int] | None): Coarse grid (h, w), n = h * w.
    """

    coarse_cls: Tensor
    fine_cls: Tensor
    coarse_maps: tuple[Tensor, ...] = ()
    fine_maps: tuple[Tensor, ...] = ()
    coarse_features: Tensor | None = None
    grid: tuple[int, int] | None = None


@dataclass(kw_only=True)
class ExitRecord(TwoStageRecord):
    """Record of an evaluation forward: who left, what was refined.

    Attributes:
        grid (tuple[int, int]): Coarse grid (h, w).
        confidence (Tensor | None): (B,), None where no head predicts it.
        exited (Tensor): Whether the image left after the coarse stage, (B,)
            bool.
        coarse_tokens (int): Tokens of the coarse stage, h * w + m.
        regions_to_refine (Tensor): Regions that each image refines if it
            goes on, (B,) int64.
        importance (Tensor): Token importance, (B, h, w).
        refined (Tensor): Refined regions, (B, h, w) bool, all False for an
            image that exited.
    """

    grid: tuple[int, int]
    confidence: Tensor | None
    exited: Tensor
    coarse_tokens: int
    regions_to_refine: Tensor
    importance: Tensor
    refined: Tensor

    @property
    def added_tokens(self) -> Tensor:
        """Tokens that each image adds if it goes on, (B,) int64."""
        return self.coarse_tokens + 3 * self.regions_to_refine

    @property
    def fine_tokens(self) -> int:
        """The same, where it is one number.

        Raises:
            ValueError: If images add different numbers (coverage).
        """
        counts = self.added_tokens.unique()
        if len(counts) != 1:
            raise ValueError(
                f'images add {self.added_tokens.tolist()} tokens: read '
                'added_tokens'
            )
        return int(counts)


@dataclass(kw_only=True)
class WholeImageRecord(ExitRecord):
    """The same where an image that goes on runs once more as a whole.

    Tokens are the cells of the last map.

    Attributes:
        image_size (tuple[int, int]): Full (height, width) in pixels.
        full_tokens (int): Cells of the full pass.
    """

    image_size: tuple[int, int]
    full_tokens: int

    @property
    def added_tokens(self) -> Tensor:
        """Tokens that each image adds if it goes on, (B,) int64."""
        return torch.full_like(self.regions_to_refine, self.full_tokens)


def halved(imgs: Tensor) -> Tensor:
    """Shrink images to half, (B, C, H, W): the means of 2 x 2 pixels."""
    return F.interpolate(
        imgs,
        scale_factor=0.5,
        mode='bilinear',
        align_corners=False,
        antialias=False,
    )


def refine_in_groups(
    refine: Callable[[Tensor, CoarseStage, int], FineStage],
    imgs: Tensor,
    coarse: CoarseStage,
    counts: Tensor,
) -> FineStage:
    """Refine images that want different numbers of regions.

    Args:
        refine (Callable): Maps images, their coarse stage and one number to
            a fine stage.
        imgs (Tensor): (B, C, H, W).
        coarse (CoarseStage): Of these images.
        counts (Tensor): Regions of each image, (B,) int64.

    Returns:
        FineStage: Of all images, in their order.
    """
    # No image is one group, of none.
    numbers = counts.unique().tolist() or [1]
    groups = [counts == k for k in numbers]
    found = [
        refine(imgs[rows], coarse.select(rows), k)
        for k, rows in zip(numbers, groups, strict=True)
    ]
    order = torch.cat([rows.nonzero()[:, 0] for rows in groups]).argsort()
    return FineStage(
        torch.cat([part.cls for part in found])[order],
        tuple(
            torch.cat(levels)[order]
            for levels in zip(*(part.maps for part in found), strict=True)
        ),
        torch.cat([part.refined for part in found])[order],
        found[-1].record,
    )


def upsample_nearest(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Repeat every token over its 2 x 2 fine cells.

    Args:
        tokens (Tensor): Raster tokens of the coarse grid, (B, h * w, D).
        grid (tuple[int, int]): (h, w).

    Returns:
        Tensor: Raster tokens of the fine grid, (B, 4 * h * w, D).
    """
    x = tokens.unflatten(1, grid)
    x = x.repeat_interleave(2, 1).repeat_interleave(2, 2)
    return x.flatten(1, 2)


def put_rows(base: Tensor, rows: Tensor, index: Tensor) -> Tensor:
    """Copy ``base`` (B, ...) with ``rows`` at the places ``index`` (K,)."""
    return base.index_copy(0, index, rows.to(base.dtype))
