"""The two stages as modules of their own, for compilers and exporters.

Whether an image goes on depends on data, which no graph of fixed shape can
hold: the branch that decides stays in Python, what it decides between does
not.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mmscope.models.scoping.coarse_to_fine import CoarseToFine
from mmscope.models.scoping.detail import DETAIL
from mmscope.models.scoping.stages import CoarseStage, halved

STATE = ('cls', 'tokens', 'embeddings')
IMPORTANCE = 'importance'


class _Branch(nn.Module):
    backbone: CoarseToFine

    def __init__(self, backbone: CoarseToFine) -> None:
        super().__init__()
        if not isinstance(backbone, CoarseToFine):
            raise TypeError(
                'the branches are those of a two-stage backbone such as '
                f'mmscope.MambaScope, got '
                f'{type(backbone).__name__}; pass model.backbone'
            )
        self.backbone = backbone


def _state_names(backbone: CoarseToFine) -> tuple[str, ...]:
    """What of the coarse stage the fine one cannot find for itself."""
    if backbone.score_metric == DETAIL:
        return STATE
    return (*STATE, IMPORTANCE)


class CoarseBranch(_Branch):
    """What every image runs through (Eq. 5).

    Example::

        coarse, fine = CoarseBranch(backbone), FineBranch(backbone)
        coarse = torch.compile(coarse.eval(), fullgraph=True)
        fine = torch.export.export(fine.eval(), (imgs, state)).module()
        output, state = coarse(imgs)
        if not confident(state['cls']):
            output = fine(imgs, state)

    Args:
        backbone (CoarseToFine): Shared with the fine branch.

    Raises:
        TypeError: If the backbone is another one.
    """

    def forward(
        self, imgs: Tensor
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Look coarsely.

        Args:
            imgs (Tensor): Normalised images, (B, C, H, W).

        Returns:
            tuple: What the backbone returns when every image exits, and what
            the fine branch needs of n regions: ``cls`` (B, D) and ``tokens``
            (B, n, D), which an exit head may judge by, ``embeddings``, and
            ``importance`` (B, n) where the mixers tell it: what the image
            tells alone ('detail') the fine branch finds for itself.
        """
        backbone = self.backbone
        stage = backbone.forward_coarse(backbone.pad(imgs))
        state = {k: getattr(stage, k) for k in _state_names(backbone)}
        return backbone.output(stage.cls, stage.maps, imgs.shape[-2:]), state


class FineBranch(_Branch):
    """What the images run through that do not exit (Eq. 13-19).

    Args:
        backbone (CoarseToFine): Shared with the coarse branch.

    Raises:
        TypeError: If the backbone is another one.
    """

    def forward(
        self, imgs: Tensor, state: dict[str, Tensor]
    ) -> tuple[Tensor, ...]:
        """Refine.

        Args:
            imgs (Tensor): The images of the coarse branch, (B, C, H, W).
            state (dict[str, Tensor]): Its second output for them.

        Returns:
            tuple[Tensor, ...]: What the backbone returns when none exits.

        Raises:
            ValueError: If the state is not that of these images, or each image
                refines its own number of regions (``refine_coverage``): no
                graph of fixed shape does.
        """
        backbone = self.backbone
        if backbone.by_coverage:
            raise ValueError(
                f'refine_coverage={backbone.refine_coverage} gives every '
                'image its own length, which no graph of fixed shape has: '
                'set a refine_ratio, or call the backbone itself'
            )
        padded, size = backbone.pad(imgs), imgs.shape[-2:]
        rows, columns = backbone.grid_of(size)
        grid = (rows // 2, columns // 2)
        parts: dict[str, Any] = self._parts(state, len(imgs), grid)
        if IMPORTANCE not in parts:
            parts[IMPORTANCE] = backbone.detail(padded, halved(padded))
        coarse = CoarseStage(grid, **parts)
        stage = backbone.forward_fine(padded, coarse)
        return backbone.output(stage.cls, stage.maps, size)

    def _parts(
        self, state: dict[str, Tensor], images: int, grid: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Take from a state what is needed, if it is that of the images."""
        names = _state_names(self.backbone)
        missing = [name for name in names if name not in state]
        if missing:
            raise ValueError(
                f'the state lacks {", ".join(missing)}, it has '
                f'{", ".join(state) or "nothing"}: give the second output of '
                'the CoarseBranch of this very backbone'
            )
        regions = grid[0] * grid[1]
        starts = dict.fromkeys(names, (images, regions)) | {'cls': (images,)}
        shapes = {name: tuple(state[name].shape) for name in names}
        odd = [
            f'{name} {shapes[name]}'
            for name, start in starts.items()
            if shapes[name][: len(start)] != start
        ]
        if odd:
            raise ValueError(
                f'{images} images of {regions} regions need a state of as '
                f'many, got {", ".join(odd)}: choose the images and each '
                'entry of the state alike'
            )
        return {name: state[name] for name in names}
