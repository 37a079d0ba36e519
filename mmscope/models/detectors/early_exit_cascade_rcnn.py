"""mmdet's CascadeRCNN, trained so that coarse maps are usable."""

from __future__ import annotations

from typing import Any

from mmdet.models.detectors import CascadeRCNN
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mmscope.models.layers import check_weight, observe
from mmscope.models.losses import (
    TrainsCoarseStage,
    exit_head_losses,
    feature_consistency,
    ignored_label,
    stage_outputs,
)
from mmscope.models.scoping import attach_gate, find_backbone
from mmscope.registry import MODELS

COARSE_LOSSES = ('detection', 'feature')


@MODELS.register_module()
class EarlyExitCascadeRCNN(TrainsCoarseStage, CascadeRCNN):
    """Cascade R-CNN whose backbone lets clear images leave early.

    L = detection(fine) + w_c * coarse-usable + losses of the backbone's exit
    head. Coarse-usable is the full detection loss on the coarse maps, which
    runs neck and heads a second time, or the feature consistency of the two
    stages' maps, which costs next to nothing and learned far less where it
    was measured (docs/results/bccd.md). Neck and heads run on each stage
    apart: mmdet's heads normalise their losses over the whole batch, so one
    call on both stages could not be weighted. Inference is CascadeRCNN's own;
    the backbone decides, image by image, who exits.

    Example::

        model = dict(
            type='mmscope.EarlyExitCascadeRCNN',
            exit_threshold=0.8,
            coarse_loss='detection',
            backbone=dict(
                type='mmscope.MambaScope',
                out_type='featmap',
                exit_head=dict(
                    type='mmscope.MultiLabelExitHead', num_classes=80
                ),
            ),
            neck=dict(type='mmscope.SimpleFPN', backbone_channels=192),
        )

    Args:
        *args (Any): Of mmdet's CascadeRCNN.
        exit_threshold (float | None): η; None leaves the backbone's.
            Defaults to None.
        coarse_loss (str): 'detection' or 'feature'. Defaults to 'detection'.
        coarse_loss_weight (float): w_c. Defaults to 1.
        **kwargs (Any): Of mmdet's CascadeRCNN.

    Raises:
        ValueError: If the backbone has no coarse stage or gives no maps,
            ``coarse_loss`` is unknown, it is 'detection' and neck or heads
            have batch norm, or the weight is invalid.
    """

    def __init__(
        self,
        *args: Any,
        exit_threshold: float | None = None,
        coarse_loss: str = 'detection',
        coarse_loss_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        backbone = find_backbone(self)
        if backbone.out_type != 'featmap':
            raise ValueError(
                'a detector needs maps, the backbone gives '
                f"{backbone.out_type!r}: set backbone.out_type='featmap'"
            )
        if coarse_loss not in COARSE_LOSSES:
            raise ValueError(
                f'coarse_loss must be one of {COARSE_LOSSES}, got '
                f'{coarse_loss!r}'
            )
        if coarse_loss == 'detection':
            _refuse_batch_norm(self)
        if exit_threshold is not None:
            attach_gate(self, exit_threshold)
        self.coarse_loss = coarse_loss
        self.coarse_loss_weight = check_weight(
            'coarse_loss_weight', coarse_loss_weight
        )

    def extract_feat(
        self, batch_inputs: Tensor | tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Run the backbone, unless its maps are given, and the neck.

        Args:
            batch_inputs (Tensor | tuple[Tensor, ...]): Images (B, 3, H, W),
                or maps of the backbone.

        Returns:
            tuple[Tensor, ...]: Pyramid.
        """
        if isinstance(batch_inputs, Tensor):
            maps: tuple[Tensor, ...] = self.backbone(batch_inputs)
        else:
            maps = batch_inputs
        return self.neck(maps) if self.with_neck else maps

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: list[Any]
    ) -> dict[str, Tensor]:
        """Compute the losses of both stages.

        Args:
            batch_inputs (Tensor): Images, (B, 3, H, W).
            batch_data_samples (list[DetDataSample]): With ``gt_instances``.

        Returns:
            dict[str, Tensor]: CascadeRCNN's, ``loss_feature_consistency`` or
            the same once more as ``coarse_*``, and ``loss_exit_*``.
        """
        with observe(self.backbone) as records:
            losses = super().loss(batch_inputs, batch_data_samples)
        outputs = stage_outputs(records)
        if self.coarse_loss == 'feature':
            losses['loss_feature_consistency'] = (
                self.coarse_loss_weight * feature_consistency(outputs)
            )
        else:
            coarse = super().loss(outputs.coarse_maps, batch_data_samples)
            for name, value in coarse.items():
                losses[f'coarse_{name}'] = self._weighted(name, value)
        samples, ignored = batch_data_samples, ignored_label(self)
        losses.update(
            exit_head_losses(self.backbone, outputs, samples, ignored)
        )
        return losses

    def _weighted(
        self, name: str, value: Tensor | list[Tensor]
    ) -> Tensor | list[Tensor]:
        # Accuracies are reported, not trained; the RPN gives a list, one
        # loss a level.
        if 'loss' not in name:
            return value
        if isinstance(value, list):
            return [self.coarse_loss_weight * v for v in value]
        return self.coarse_loss_weight * value


def _refuse_batch_norm(model: CascadeRCNN) -> None:
    inside = set(map(id, model.backbone.modules()))
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and id(module) not in inside
    ]
    if found:
        raise ValueError(
            f"coarse_loss='detection' runs neck and heads twice a step, and "
            f'the batch norm {found[0]} would see two statistics: use '
            "norm_cfg=dict(type='mmscope.LN2d'), or coarse_loss='feature'"
        )
