"""mmpretrain's ImageClassifier with the exit gate built in."""

from __future__ import annotations

from typing import Any

from mmpretrain.models.classifiers import ImageClassifier
from torch import Tensor

from mmscope.models.layers import observe
from mmscope.models.losses import (
    TrainsCoarseStage,
    exit_head_losses,
    stage_outputs,
)
from mmscope.models.scoping import attach_gate, find_backbone
from mmscope.registry import MODELS


@MODELS.register_module()
class CoarseToFineClassifier(TrainsCoarseStage, ImageClassifier):
    """Classifier that stops after the coarse stage when that is sure.

    The gate is wired when the model is built, so inferencers and plain
    ``model(imgs)`` exit early with no Runner around. Training needs a head
    that teaches the coarse stage, :class:`CoarseToFineClsHead`.

    Example::

        model = dict(
            type='mmscope.CoarseToFineClassifier',
            exit_threshold=0.65,
            backbone=dict(type='mmscope.MambaScope', arch='small'),
            head=dict(
                type='mmscope.CoarseToFineClsHead',
                num_classes=1000,
                in_channels=384,
            ),
        )

    Args:
        *args (Any): Of mmpretrain's ImageClassifier.
        exit_threshold (float | None): η; None leaves the backbone's.
            Defaults to None.
        confidence (str | None): 'max_prob' or 'entropy'; None for the
            first. Defaults to None.
        **kwargs (Any): Of mmpretrain's ImageClassifier.

    Raises:
        ValueError: If the backbone has no coarse stage, its output is not a
            cls token, its width is not the head's, or the head does not
            train the coarse stage.
    """

    def __init__(
        self,
        *args: Any,
        exit_threshold: float | None = None,
        confidence: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._check_parts()
        attach_gate(self, exit_threshold, confidence)

    def loss(
        self, inputs: Tensor, data_samples: list[Any]
    ) -> dict[str, Tensor]:
        """Compute the losses of both stages, and of an exit head.

        Args:
            inputs (Tensor): Images, (B, 3, H, W).
            data_samples (list[DataSample]): With ``gt_label`` or
                ``gt_score``.

        Returns:
            dict[str, Tensor]: Of the head, and ``loss_exit_*`` where the
            backbone has an exit head, which then decides.
        """
        if self.backbone.exit_head is None:
            return super().loss(inputs, data_samples)
        with observe(self.backbone) as records:
            losses = super().loss(inputs, data_samples)
        outputs = stage_outputs(records)
        return losses | exit_head_losses(
            self.backbone, outputs, data_samples, ignored=None
        )

    def _check_parts(self) -> None:
        # By name: a type checker would take the head for the mark alone.
        trains_coarse = isinstance(self.head, TrainsCoarseStage)
        if not trains_coarse:
            raise ValueError(
                'CoarseToFineClassifier needs a head that trains the coarse '
                f'stage, got {type(self.head).__name__}: use '
                'mmscope.CoarseToFineClsHead, or ImageClassifier with '
                'mmscope.ConfidenceGateHook'
            )
        backbone = find_backbone(self)
        if backbone.out_type != 'cls_token':
            raise ValueError(
                "a classifier needs backbone.out_type='cls_token', got "
                f'{backbone.out_type!r}'
            )
        dims = backbone.summary_dims
        if self.neck is None and self.head.in_channels != dims:
            raise ValueError(
                f'head.in_channels is {self.head.in_channels}, the backbone '
                f'gives {dims} channels: make them equal'
            )
