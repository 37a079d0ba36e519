"""Which classes are in the image: the exit head of dense tasks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmscope.models.heads.confidence import check_confidence
from mmscope.registry import MODELS


@MODELS.register_module()
class MultiLabelExitHead(BaseModule):
    """Predict from a cls token which classes are present.

    The image-level auxiliary classifier of MambaScope (arXiv:2512.00647,
    appendix A), supervised by the labels found in the image's annotation.
    One set of weights serves the coarse and the fine stage.

    Example::

        exit_head = dict(
            type='mmscope.MultiLabelExitHead',
            num_classes=150,
            confidence='mean_present',
        )

    Args:
        num_classes (int): Classes C.
        in_channels (int): Channels D of the cls token; the backbone fills it
            in.
        confidence (str): See :func:`multi_label_confidence`. Defaults to
            'mean_present'.
        loss_weight (float): w_e of the two label losses. Defaults to 0.4.
        distill_weight (float): w_k of the loss that brings the coarse to the
            fine prediction. Defaults to 0.4.
        init_cfg (dict | None): MMEngine initialisation. Defaults to None.

    Raises:
        ValueError: If ``confidence`` or ``num_classes`` is invalid.
    """

    # What the gate asks.
    meaning = 'multi_label'

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        confidence: str = 'mean_present',
        loss_weight: float = 0.4,
        distill_weight: float = 0.4,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if num_classes < 1:
            raise ValueError(f'num_classes must be >= 1, got {num_classes}')
        self.num_classes = num_classes
        self.kind = check_confidence(confidence, self.meaning)
        self.loss_weight = loss_weight
        self.distill_weight = distill_weight
        self.fc = nn.Linear(in_channels, num_classes)
        nn.init.trunc_normal_(self.fc.weight, std=0.02)
        nn.init.zeros_(self.fc.bias)
        # Saved with the weights: tells a trained head from a fresh one.
        self.register_buffer('num_updates', torch.zeros((), dtype=torch.long))

    @property
    def is_trained(self) -> bool:
        """Whether this head, or the checkpoint it came from, was trained."""
        return bool(self.num_updates > 0)

    def forward(self, cls: Tensor) -> Tensor:
        """Predict presence.

        Args:
            cls (Tensor): Tokens after the final norm, (B, D).

        Returns:
            Tensor: Logits, (B, C).
        """
        return self.fc(cls)

    def loss(
        self, coarse_cls: Tensor, fine_cls: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """Losses of the exit prediction (DESIGN: w_e and w_k terms).

        Args:
            coarse_cls (Tensor): (B, D).
            fine_cls (Tensor): (B, D).
            targets (Tensor): 1 where a class is present, else 0, (B, C);
                NaN rows are images without any label and do not count.

        Returns:
            dict[str, Tensor]: Weighted scalars.
        """
        self.num_updates += 1
        labelled = ~targets.isnan().any(1)
        targets = targets.nan_to_num(0.0)
        coarse, fine = self(coarse_cls).float(), self(fine_cls).float()

        def mean_bce(logits: Tensor, wanted: Tensor) -> Tensor:
            bce = F.binary_cross_entropy_with_logits(
                logits, wanted, reduction='none'
            ).mean(1)
            return (bce * labelled).sum() / labelled.sum().clamp(min=1)

        distilled = mean_bce(coarse, fine.detach().sigmoid())
        return {
            'loss_exit_coarse': self.loss_weight * mean_bce(coarse, targets),
            'loss_exit_fine': self.loss_weight * mean_bce(fine, targets),
            'loss_exit_distill': self.distill_weight * distilled,
        }
