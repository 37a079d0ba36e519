"""What the two stages hand over."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from mmscope.models.scoping import FineLayout


@dataclass
class CoarseStage:
    """Output of the coarse stage; letters as in the module ``selection``.

    Attributes:
        grid (tuple[int, int]): Coarse grid (h, w).
        cls (Tensor): After the final norm, (B, D).
        tokens (Tensor): After the final norm, without cls, (B, n, D).
        embeddings (Tensor): Patch plus position embedding, (B, n, D).
        importance (Tensor): (B, n).
        maps (tuple[Tensor, ...]): Levels at the fine stride,
            (B, D, 2h, 2w) each; empty unless out_type is 'featmap'.
    """

    grid: tuple[int, int]
    cls: Tensor
    tokens: Tensor
    embeddings: Tensor
    importance: Tensor
    maps: tuple[Tensor, ...]

    def select(self, index: Tensor) -> CoarseStage:
        """Keep some images; ``index`` is (B,) bool."""
        return CoarseStage(
            self.grid,
            self.cls[index],
            self.tokens[index],
            self.embeddings[index],
            self.importance[index],
            (),
        )


@dataclass
class FineStage:
    """Output of the fine stage.

    Attributes:
        cls (Tensor): After the final norm, (B, D).
        maps (tuple[Tensor, ...]): Levels, (B, D, 2h, 2w) each.
        layout (FineLayout): What was refined.
    """

    cls: Tensor
    maps: tuple[Tensor, ...]
    layout: FineLayout


@dataclass
class StageOutputs:
    """What training losses need of both stages.

    Attributes:
        coarse_cls (Tensor): (B, D).
        fine_cls (Tensor): (B, D).
        coarse_maps (tuple[Tensor, ...]): As an exit would give them.
        fine_maps (tuple[Tensor, ...]): The backbone's own output.
    """

    coarse_cls: Tensor
    fine_cls: Tensor
    coarse_maps: tuple[Tensor, ...] = field(default_factory=tuple)
    fine_maps: tuple[Tensor, ...] = field(default_factory=tuple)


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
    """Copy ``base`` (B, ...) with ``rows`` at the places where ``index``."""
    out = base.clone()
    out[index] = rows.to(out.dtype)
    return out
