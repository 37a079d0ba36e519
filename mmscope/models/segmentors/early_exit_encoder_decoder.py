"""mmseg's EncoderDecoder, trained so that coarse maps are usable."""

from __future__ import annotations

from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.utils import add_prefix
from torch import Tensor, nn

from mmscope.models.layers import check_weight, observe
from mmscope.models.losses import (
    TrainsCoarseStage,
    exit_head_losses,
    ignored_label,
    stage_outputs,
)
from mmscope.models.scoping import attach_gate, find_backbone
from mmscope.registry import MODELS

CANNOT_SPLIT = (
    ', so its loss cannot be split into a fine and a coarse part: use the '
    'plain EncoderDecoder with ConfidenceGateHook, which trains by feature '
    'consistency'
)


@MODELS.register_module()
class EarlyExitEncoderDecoder(TrainsCoarseStage, EncoderDecoder):
    """Segmentor whose neck and heads also learn from the coarse stage.

    L = task(fine) + w_c * task(coarse) + losses of the backbone's exit head.
    Neck and heads see the fine and the coarse maps as ONE batch: two calls
    would update batch-norm statistics twice and differently. Inference is
    EncoderDecoder's own; the backbone decides who exits.

    Example::

        model = dict(
            type='mmscope.EarlyExitEncoderDecoder',
            exit_threshold=0.8,
            coarse_loss_weight=1.0,
            backbone=dict(type='mmscope.MambaScope', out_type='featmap', ...),
        )

    Args:
        *args (Any): Of mmseg's EncoderDecoder.
        exit_threshold (float | None): η; None leaves the backbone's.
            Defaults to None.
        coarse_loss_weight (float): w_c. Defaults to 1.
        **kwargs (Any): Of mmseg's EncoderDecoder.

    Raises:
        ValueError: If the backbone has no coarse stage, a head has a loss
            that cannot be split between the stages, or the weight is invalid.
    """

    def __init__(
        self,
        *args: Any,
        exit_threshold: float | None = None,
        coarse_loss_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        find_backbone(self)
        for _, head in [
            ('decode', self.decode_head),
            *self._auxiliary_heads(),
        ]:
            _refuse_own_loss(head)
        if exit_threshold is not None:
            attach_gate(self, exit_threshold)
        self.coarse_loss_weight = check_weight(
            'coarse_loss_weight', coarse_loss_weight
        )

    def loss(
        self, inputs: Tensor, data_samples: list[Any]
    ) -> dict[str, Tensor]:
        """Compute the losses of both stages.

        Args:
            inputs (Tensor): Images, (B, 3, H, W).
            data_samples (list[SegDataSample]): With ``gt_sem_seg``.

        Returns:
            dict[str, Tensor]: ``decode.*``, ``coarse_decode.*``, the same
            for auxiliary heads, and ``loss_exit_*``.
        """
        with observe(self.backbone) as records:
            fine_maps = self.backbone(inputs)
        outputs = stage_outputs(records)
        maps = tuple(
            torch.cat(pair)
            for pair in zip(fine_maps, outputs.coarse_maps, strict=True)
        )
        if self.with_neck:
            maps = self.neck(maps)
        losses = self._both_stages(
            self.decode_head, 'decode', maps, data_samples
        )
        for name, head in self._auxiliary_heads():
            losses.update(self._both_stages(head, name, maps, data_samples))
        ignored = ignored_label(self)
        losses.update(
            exit_head_losses(self.backbone, outputs, data_samples, ignored)
        )
        return losses

    def _auxiliary_heads(self) -> list[tuple[str, BaseDecodeHead]]:
        if not self.with_auxiliary_head:
            return []
        if isinstance(self.auxiliary_head, nn.ModuleList):
            return [
                (f'aux_{i}', head)
                for i, head in enumerate(self.auxiliary_head)
            ]
        return [('aux', self.auxiliary_head)]

    def _both_stages(
        self,
        head: BaseDecodeHead,
        name: str,
        maps: tuple[Tensor, ...],
        data_samples: list[Any],
    ) -> dict[str, Tensor]:
        logits = head.forward(maps)
        if not isinstance(logits, Tensor):
            raise ValueError(
                f'{type(head).__name__} returns {type(logits).__name__} '
                f'instead of one logit map{CANNOT_SPLIT}'
            )
        fine, coarse = logits.chunk(2)
        losses = add_prefix(head.loss_by_feat(fine, data_samples), name)
        for key, value in head.loss_by_feat(coarse, data_samples).items():
            weight = self.coarse_loss_weight if 'loss' in key else 1.0
            losses[f'coarse_{name}.{key}'] = value * weight
        return losses


def _refuse_own_loss(head: nn.Module) -> None:
    # Matched queries and the like: no logits that could be split come out.
    if getattr(type(head), 'loss', None) is not BaseDecodeHead.loss:
        raise ValueError(
            f'{type(head).__name__} computes its loss in a way of its own'
            f'{CANNOT_SPLIT}'
        )
