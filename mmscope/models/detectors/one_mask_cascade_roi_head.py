"""Cascade of boxes with one mask head behind it."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.roi_heads import CascadeRoIHead
from mmdet.models.utils import empty_instances
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmscope.registry import MODELS


@MODELS.register_module()
class OneMaskCascadeRoIHead(CascadeRoIHead):
    """mmdet's cascade, with one mask head instead of one a stage.

    As ViTDet (arXiv:2203.16527) and ViM (arXiv:2401.09417) have it in
    Detectron2, where mmdet trains three mask heads and averages their masks:
    the head learns from the first stage's positive proposals and is run once,
    on the final boxes.

    Example::

        roi_head = dict(
            type='mmscope.OneMaskCascadeRoIHead',
            num_stages=3,
            stage_loss_weights=[1, 0.5, 0.25],
            mask_head=dict(type='FCNMaskHead', ...),
            ...,
        )
    """

    def init_mask_head(
        self,
        mask_roi_extractor: dict[str, Any] | None,
        mask_head: dict[str, Any],
    ) -> None:
        """Build the mask head.

        Args:
            mask_roi_extractor (dict | None): Its RoI extractor; None shares
                the first stage's.
            mask_head (dict): One config.

        Raises:
            ValueError: If ``mask_head`` is a list.
        """
        if isinstance(mask_head, (list, tuple)):
            raise ValueError(
                f'{type(self).__name__} has one mask head, got a list of '
                f'{len(mask_head)}: give one config, or use CascadeRoIHead'
            )
        self.mask_head = nn.ModuleList([MODELS.build(mask_head)])
        self.share_roi_extractor = mask_roi_extractor is None
        self.mask_roi_extractor = self.bbox_roi_extractor
        if mask_roi_extractor is not None:
            extractor = MODELS.build(mask_roi_extractor)
            self.mask_roi_extractor = nn.ModuleList([extractor])

    def mask_loss(
        self,
        stage: int,
        x: tuple[Tensor, ...],
        sampling_results: list[Any],
        batch_gt_instances: list[InstanceData],
    ) -> dict[str, dict[str, Tensor]]:
        """Compute the mask loss, which the first stage alone has.

        Args:
            stage (int): Stage of the cascade.
            x (tuple[Tensor, ...]): Pyramid.
            sampling_results (list[SamplingResult]): Of that stage.
            batch_gt_instances (list[InstanceData]): With masks.

        Returns:
            dict: ``loss_mask``, a dict of scalars, empty after stage 0.
        """
        if stage > 0:
            return {'loss_mask': {}}
        return super().mask_loss(
            stage, x, sampling_results, batch_gt_instances
        )

    def predict_mask(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict[str, Any]],
        results_list: list[InstanceData],
        rescale: bool = False,
    ) -> list[InstanceData]:
        """Predict a mask for every final box.

        Args:
            x (tuple[Tensor, ...]): Pyramid.
            batch_img_metas (list[dict]): One an image.
            results_list (list[InstanceData]): Final boxes.
            rescale (bool): Whether they are in the original image's
                coordinates. Defaults to False.

        Returns:
            list[InstanceData]: The same with ``masks``.
        """
        rois = bbox2roi([results.bboxes for results in results_list])
        if len(rois) == 0:
            return empty_instances(
                batch_img_metas,
                rois.device,
                task_type='mask',
                instance_results=results_list,
                mask_thr_binary=self.test_cfg.mask_thr_binary,
            )
        masks = self._mask_forward(0, x, rois)['mask_preds']
        head: Any = self.mask_head[0]
        return head.predict_by_feat(
            mask_preds=masks.split([len(res) for res in results_list]),
            results_list=results_list,
            batch_img_metas=batch_img_metas,
            rcnn_test_cfg=self.test_cfg,
            rescale=rescale,
        )

    def forward(
        self,
        x: tuple[Tensor, ...],
        rpn_results_list: list[InstanceData],
        batch_data_samples: list[Any],
    ) -> tuple[Any, ...]:
        """Run the heads without post-processing (``mode='tensor'``).

        Args:
            x (tuple[Tensor, ...]): Pyramid.
            rpn_results_list (list[InstanceData]): Proposals.
            batch_data_samples (list[DetDataSample]): For their meta data.

        Returns:
            tuple: Class scores and box deltas, and with a mask head the
            masks of all proposals, one entry an image each.
        """
        metas = [sample.metainfo for sample in batch_data_samples]
        proposals = [results.bboxes for results in rpn_results_list]
        numbers = tuple(map(len, proposals))
        rois, scores, deltas = self._refine_roi(
            x, bbox2roi(proposals), metas, numbers
        )
        if not self.with_mask:
            return scores, deltas
        masks = self._mask_forward(0, x, torch.cat(rois))['mask_preds']
        return scores, deltas, masks.sigmoid().split(numbers)
