"""The two stages as modules of their own, for compilers and exporters.

Whether an image goes on depends on data, which no graph of fixed shape can
hold: the branch that decides stays in Python, what it decides between does
not.
"""

from __future__ import annotations

from torch import Tensor, nn

from mmscope.models.backbones.mambascope import MambaScope
from mmscope.models.backbones.stages import CoarseStage
from mmscope.models.backbones.vim import crop_map
from mmscope.models.layers import pad_to_multiple

STATE = ('cls', 'tokens', 'embeddings', 'importance')


class _Branch(nn.Module):
    def __init__(self, backbone: MambaScope) -> None:
        super().__init__()
        if not isinstance(backbone, MambaScope):
            raise TypeError(
                'the branches are those of a MambaScope backbone, got '
                f'{type(backbone).__name__}; pass model.backbone'
            )
        self.backbone = backbone

    def _padded(self, imgs: Tensor) -> Tensor:
        self.backbone.check_images(imgs)
        return pad_to_multiple(imgs, 2 * self.backbone.patch_size)

    def _output(
        self, imgs: Tensor, cls: Tensor, maps: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        if self.backbone.out_type == 'cls_token':
            return (cls,)
        size, patch = imgs.shape[-2:], self.backbone.patch_size
        return tuple(crop_map(level, size, patch) for level in maps)


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
        backbone (MambaScope): Shared with the fine branch.

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
            the fine branch needs of n regions: ``cls`` (B, D), which an exit
            head may judge by, ``tokens`` and ``embeddings`` (B, n, D),
            ``importance`` (B, n).
        """
        stage = self.backbone.forward_coarse(self._padded(imgs))
        state = {name: getattr(stage, name) for name in STATE}
        return self._output(imgs, stage.cls, stage.maps), state


class FineBranch(_Branch):
    """What the images run through that do not exit (Eq. 13-19).

    Args:
        backbone (MambaScope): Shared with the coarse branch.

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
        """
        padded = self._padded(imgs)
        unit = 2 * self.backbone.patch_size
        grid = (padded.shape[-2] // unit, padded.shape[-1] // unit)
        coarse = CoarseStage(grid, **state, maps=())
        stage = self.backbone.forward_fine(padded, coarse)
        return self._output(imgs, stage.cls, stage.maps)
