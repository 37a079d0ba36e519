"""An early exit around any backbone of the hosts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmscope.models.backbones.arguments import check_choice
from mmscope.models.backbones.embedding import check_batch
from mmscope.models.layers import is_observed
from mmscope.models.scoping.feature_levels import find_levels
from mmscope.models.scoping.half_size import HalfSize, read_out
from mmscope.models.scoping.stages import (
    CoarseStage,
    ExitRecord,
    FineStage,
    PassRecord,
    StageOutputs,
    WholeImageRecord,
)
from mmscope.models.scoping.two_stage import TwoStage
from mmscope.models.scoping.wrapping import (
    build_backbone,
    check_host,
    check_wrapped,
)
from mmscope.registry import MODELS

OUT_TYPES = ('cls_token', 'featmap')


@MODELS.register_module()
class ExitOnly(TwoStage, BaseModule):
    """A backbone of any host that looks at half the size first.

    The confidence gate of MambaScope (arXiv:2512.00647, section 4.1) without
    what needs a sequence of tokens: every image runs at half its size, in
    evaluation the unsure ones once more at full size. No region is selected
    and no feature is reused, so an image that goes on costs about 1.25 times
    the plain backbone. Both passes share all weights.

    With 'featmap' the full pass gives bit for bit the maps of the backbone
    alone; an image that exits has its coarse maps upsampled 2 x 2 (nearest),
    cropped to the sizes of the full ones. With 'cls_token' the last map is
    averaged here, so the host must have no neck. In training both passes
    run. Statistics of batch norm follow the full pass alone: the coarse pass
    reads them, as it will in evaluation.

    In evaluation with ``exit_threshold=None`` the full pass alone runs,
    unless somebody observes: observers (metrics, sweeps) get the record, and
    pay the costs, of both passes. ``last_exit`` of a full pass alone says
    that nobody exited; of the coarse pass, which was left out, it has a grid
    of (0, 0) and no tokens.

    Weights of the wrapped backbone are ``backbone.*`` inside, so ``init_cfg``
    of the inner backbone works as ever; a checkpoint of the plain backbone
    also loads into the wrapper itself.

    Example::

        backbone = dict(
            type='mmscope.ExitOnly',
            out_type='featmap',
            exit_head=dict(type='mmscope.MultiLabelExitHead', num_classes=150),
            backbone=dict(
                type='ResNet',
                depth=50,
                init_cfg=dict(
                    type='Pretrained', checkpoint='torchvision://resnet50'
                ),
            ),
        )

    Args:
        backbone (dict): Of the host, or with the prefix of another one. It
            must take images of any size and give a tuple of maps; for
            'cls_token' the last entry may be a vector (B, D).
        exit_threshold (float | None): η; None never exits, and looks at full
            size alone where nobody observes. Defaults to None.
        exit_head (dict | None): Multi-label head on the average of the last
            coarse map, and on its cells where the head has a map. Defaults
            to None.
        out_type (str): 'cls_token' gives a vector (in training the coarse
            and the full one), 'featmap' maps. Defaults to 'cls_token'.
        init_cfg (dict | list | None): MMEngine initialisation of the whole.
            Defaults to None.

    Raises:
        ValueError: If the backbone is not a config of one stage, cannot be
            built, does not run at another size, gives no maps, or recomputes
            batch norm (``with_cp``); or another argument is invalid.
    """

    grid_multiple = 2
    reduction = None

    def __init__(
        self,
        backbone: dict[str, Any],
        exit_threshold: float | None = None,
        exit_head: dict[str, Any] | None = None,
        out_type: str = 'cls_token',
        init_cfg: dict[str, Any] | list[Any] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.out_type = check_choice('out_type', out_type, OUT_TYPES)
        self.backbone = build_backbone(backbone)
        check_wrapped(self.backbone)
        # The hosts' word; their images have three channels.
        self.in_channels = backbone.get('in_channels', 3)
        self.levels = find_levels(
            self.backbone, self.in_channels, out_type == 'featmap'
        )
        self.halving = HalfSize(self.levels, out_type == 'featmap')
        self.patch_size = self.patch_stride = self.levels[-1].stride
        self.embed_dims = self.summary_dims = self.levels[-1].channels
        self._add_exit(exit_head, exit_threshold)

    def check_host(self, host: nn.Module) -> None:
        """Refuse a host that would not use what this gives.

        Raises:
            ValueError: If a neck or a head would get the wrong thing.
        """
        check_host(host, self.out_type)

    def forward(self, imgs: Tensor) -> tuple[Tensor, ...]:
        """Look at half the size, and at full size at what is not clear.

        Args:
            imgs (Tensor): Normalised images, (B, C, H, W).

        Returns:
            tuple[Tensor, ...]: (vector,) of (B, D), in training (coarse,
            full); or the maps of all levels, in the sizes of the full ones.

        Raises:
            TypeError: See :meth:`check_images`.
            ValueError: See :meth:`check_images`, :meth:`forward_coarse` and
                :meth:`forward_fine`.
        """
        imgs = self.pad(imgs)
        if self.training:
            return self._train_outputs(imgs)
        if self.exit_threshold is None and not is_observed(self):
            return self._full_outputs(imgs)
        gated = self._gated(imgs, self.forward_coarse(imgs))
        return self.output(*gated, imgs.shape[-2:])

    def pad(self, imgs: Tensor) -> Tensor:
        """Give images (B, C, H, W) as they are, if they are some."""
        self.check_images(imgs)
        return imgs

    def check_images(self, imgs: Tensor) -> None:
        """Refuse input that is not a batch of images.

        Raises:
            TypeError: If it is no tensor.
            ValueError: If rank, channels or dtype do not fit, or an image
                has no pixel.
        """
        check_batch(imgs, self.in_channels)
        if not min(imgs.shape[-2:]):
            raise ValueError(
                f'images of {imgs.shape[-2]} x {imgs.shape[-1]} pixels have '
                'none: check what was loaded'
            )

    def output(
        self, cls: Tensor, maps: tuple[Tensor, ...], size: Sequence[int]
    ) -> tuple[Tensor, ...]:
        """Give the vector alone, or the levels, as ``out_type`` asks."""
        return (cls,) if self.out_type == 'cls_token' else maps

    def coarse_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Tell what the coarse pass looks at.

        Args:
            size (Sequence[int]): Full (height, width) in pixels.

        Returns:
            tuple[int, int]: Half of it; for maps half of the next sizes
            that leave whole cells.
        """
        return self.halving.size_of(size)

    def forward_coarse(self, imgs: Tensor) -> CoarseStage:
        """Run the backbone at half the size.

        Args:
            imgs (Tensor): (B, C, H, W).

        Returns:
            CoarseStage: Its vector, the cells of its last map as tokens, and
            usable maps; nothing is more important than anything else.

        Raises:
            ValueError: If half the size is too small for the backbone.
        """
        height, width = imgs.shape[-2:]
        outputs = self.halving.look(self.backbone, imgs)
        last, maps = self.halving.fit(outputs, (height, width))
        vector, tokens, grid = read_out(last)
        return CoarseStage(
            grid=grid,
            cls=vector,
            tokens=tokens,
            embeddings=tokens[:, :0],
            importance=tokens.new_zeros(tokens.shape[:2]),
            maps=maps,
            record=PassRecord(
                [tokens.shape[1]], [None], image_size=(height, width)
            ),
        )

    def forward_fine(
        self, imgs: Tensor, coarse: CoarseStage | None = None
    ) -> FineStage:
        """Run the backbone at full size.

        Args:
            imgs (Tensor): (B, C, H, W).
            coarse (CoarseStage | None): Gives the grid of regions, all of
                which are refined. Defaults to None, the backbone's own.

        Returns:
            FineStage: Vector and maps.

        Raises:
            ValueError: If its maps have other sizes than the strides tell,
                so that coarse ones would not fit.
        """
        outputs = tuple(self.backbone(imgs))
        vector, tokens, _ = read_out(outputs[-1])
        maps: tuple[Tensor, ...] = ()
        if self.out_type == 'featmap':
            name = type(self.backbone).__name__
            self.halving.check(name, outputs, imgs.shape[-2:])
            maps = outputs
        regions = tokens.shape[1] if coarse is None else coarse.tokens.shape[1]
        return FineStage(
            vector,
            maps,
            torch.ones(
                len(imgs), regions, dtype=torch.bool, device=imgs.device
            ),
            PassRecord.of(imgs, outputs),
        )

    def count_regions(self, importance: Tensor) -> Tensor:
        """Count the regions refined: all, (B,) int64."""
        return importance.new_full(
            importance.shape[:1], importance.shape[1], dtype=torch.long
        )

    def exit_record(self, coarse: CoarseStage, *decided: Any) -> ExitRecord:
        """Write down what was decided, see :meth:`TwoStage.exit_record`."""
        record = super().exit_record(coarse, *decided)
        assert isinstance(coarse.record, PassRecord)
        height, width = size = coarse.record.image_size
        last = self.levels[-1]
        return WholeImageRecord(
            **{
                field.name: getattr(record, field.name)
                for field in fields(record)
            },
            image_size=size,
            full_tokens=last.side(height) * last.side(width),
        )

    def _full_outputs(self, imgs: Tensor) -> tuple[Tensor, ...]:
        """Run the full pass alone, where nobody may exit."""
        fine = self.forward_fine(imgs)
        nothing = fine.cls[:, None][:, :0]
        size = imgs.shape[-2], imgs.shape[-1]
        unseen = CoarseStage(
            grid=(0, 0),
            cls=fine.cls,
            tokens=nothing,
            embeddings=nothing,
            importance=nothing[..., 0],
            record=PassRecord([0], [None], image_size=size),
        )
        stay = fine.refined.new_zeros(len(imgs))
        self._hand_out(self.exit_record(unseen, None, stay, fine))
        return self.output(fine.cls, fine.maps, size)

    def _train_outputs(self, imgs: Tensor) -> tuple[Tensor, ...]:
        # Full size first: its update of running statistics must not come
        # between the coarse forward, which reads them, and its backward.
        fine = self.forward_fine(imgs)
        coarse = self.forward_coarse(imgs)
        self.deliver(
            StageOutputs(
                lengths=coarse.ran.lengths,
                directions=coarse.ran.directions,
                fine_lengths=fine.record.lengths,
                coarse_cls=coarse.cls,
                fine_cls=fine.cls,
                coarse_maps=coarse.maps,
                fine_maps=fine.maps,
                coarse_features=coarse.tokens,
                grid=coarse.grid,
            )
        )
        if self.out_type == 'cls_token':
            return coarse.cls, fine.cls
        return fine.maps

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        inner = f'{prefix}backbone.'
        own = f'{prefix}exit_head.'
        keys = [
            key
            for key in state_dict
            if key.startswith(prefix) and not key.startswith(own)
        ]
        if not any(key.startswith(inner) for key in keys):
            # Of the backbone alone.
            for key in keys:
                name = inner + key.removeprefix(prefix)
                state_dict[name] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)
