"""mmpretrain's ImageClassifier with the exit gate built in."""

from __future__ import annotations

from mmpretrain.models.classifiers import ImageClassifier
from torch import Tensor

from mmscope.models.losses import take_stage_outputs
from mmscope.models.scoping import attach_gate
from mmscope.registry import MODELS


@MODELS.register_module()
class CoarseToFineClassifier(ImageClassifier):
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
        *args (object): Of mmpretrain's ImageClassifier.
        exit_threshold (float | None): η; None leaves the backbone's.
            Defaults to None.
        confidence (str): 'max_prob' or 'entropy'. Defaults to 'max_prob'.
        **kwargs (object): Of mmpretrain's ImageClassifier.

    Raises:
        ValueError: If the backbone has no coarse stage, its output is not a
            cls token, its width is not the head's, or the head does not
            train the coarse stage.
    """

    # Tells ConfidenceGateHook that the losses are already there.
    has_exit_losses = True

    def __init__(
        self,
        *args: object,
        exit_threshold: float | None = None,
        confidence: str = 'max_prob',
        **kwargs: object,
    ) -> None:
        super().__init__(*args, **kwargs)
        attach_gate(self, exit_threshold, confidence)
        self._check_parts()

    def _check_parts(self) -> None:
        if not getattr(self.head, 'has_exit_losses', False):
            raise ValueError(
                'CoarseToFineClassifier needs a head that trains the coarse '
                f'stage, got {type(self.head).__name__}: use '
                'mmscope.CoarseToFineClsHead, or ImageClassifier with '
                'mmscope.ConfidenceGateHook'
            )
        if self.backbone.out_type != 'cls_token':
            raise ValueError(
                "a classifier needs backbone.out_type='cls_token', got "
                f'{self.backbone.out_type!r}'
            )
        if self.head.in_channels != self.backbone.embed_dims:
            raise ValueError(
                f'head.in_channels is {self.head.in_channels}, the backbone '
                f'gives {self.backbone.embed_dims} channels: make them equal'
            )

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Compute the losses of both stages.

        Args:
            inputs (Tensor): Images, (B, 3, H, W).
            data_samples (list[DataSample]): With labels or mixed scores.

        Returns:
            dict[str, Tensor]: See :meth:`CoarseToFineClsHead.loss`.
        """
        losses = super().loss(inputs, data_samples)
        # The head has had the tokens; keep no graph beyond this step.
        take_stage_outputs(self.backbone)
        return losses
