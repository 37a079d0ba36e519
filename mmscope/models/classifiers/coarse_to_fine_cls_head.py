"""mmpretrain's linear head, trained on both stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmpretrain.models.heads import LinearClsHead
from torch import Tensor

from mmscope.models.layers import check_weight
from mmscope.models.losses import (
    TrainsCoarseStage,
    check_kl_direction,
    coarse_fine_kl,
)
from mmscope.registry import MODELS

# As the released ViM initialises its head.
RELEASED_INIT = {
    'type': 'TruncNormal',
    'layer': 'Linear',
    'std': 0.02,
    'bias': 0.0,
}


@MODELS.register_module()
class CoarseToFineClsHead(TrainsCoarseStage, LinearClsHead):
    """One linear classifier for both stages (Eq. 21).

    L = CE(p, y) + w * KL, where p is the fine prediction and the coarse one
    learns from it alone. Labels, Mixup or CutMix scores and label smoothing
    act on the CE as in mmpretrain. Inference is ``LinearClsHead``'s own.

    Example::

        head = dict(
            type='mmscope.CoarseToFineClsHead',
            num_classes=1000,
            in_channels=192,
            loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1),
        )

    Args:
        num_classes (int): Classes C.
        in_channels (int): Channels D of the cls token.
        kl_weight (float): w >= 0. Defaults to 1.
        kl_direction (str): See :func:`coarse_fine_kl`. Defaults to 'pq'.
        init_cfg (dict | None): MMEngine initialisation. Defaults to a
            truncated normal of 0.02.
        **kwargs (Any): Of mmpretrain's ``ClsHead``: ``loss``, ``topk``,
            ``cal_acc``.

    Raises:
        ValueError: If the weight or the direction is invalid.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        kl_weight: float = 1.0,
        kl_direction: str = 'pq',
        init_cfg: dict[str, Any] | None = RELEASED_INIT,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, in_channels, init_cfg=init_cfg, **kwargs)
        self.kl_weight = check_weight('kl_weight', kl_weight)
        self.kl_direction = check_kl_direction(kl_direction)

    def loss(
        self, feats: Sequence[Tensor], data_samples: list[Any], **kwargs: Any
    ) -> dict[str, Tensor]:
        """Compute the losses of both stages.

        Args:
            feats (Sequence[Tensor]): (coarse cls, fine cls), (B, D) each.
            data_samples (list[DataSample]): With ``gt_label`` or
                ``gt_score``.
            **kwargs (Any): Of the classification loss.

        Returns:
            dict[str, Tensor]: ``loss`` (fine), ``loss_kl`` (coarse), and
            the fine accuracy with ``cal_acc``.

        Raises:
            ValueError: If there are not two stages.
        """
        if len(feats) != 2:
            raise ValueError(
                'CoarseToFineClsHead trains on (coarse cls, fine cls), got '
                f'{len(feats)} feature(s). A model in evaluation mode gives '
                "one: call model.train(). mmpretrain's LinearNeck keeps the "
                'last one only: leave it out, or use a neck that keeps both. '
                'The backbone must have two stages, as mmscope.MambaScope '
                "with out_type='cls_token'; one that has one stage needs "
                'LinearClsHead'
            )
        coarse, fine = self(feats[:1]), self(feats[1:])
        losses = self._get_loss(fine, data_samples, **kwargs)
        kl = coarse_fine_kl(coarse, fine, self.kl_direction)
        losses['loss_kl'] = self.kl_weight * kl
        return losses
