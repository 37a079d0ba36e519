"""COCO's box and mask AP where some images exit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmscope.evaluation.detection_images import DetectionImages
from mmscope.evaluation.matching import Entry, ImageMatches, match_image

IOU_TYPES = ('bbox', 'segm')
# Share of the image by which a box may lie outside after rounding.
ROOM = 0.02


class DetectionScore:
    """AP of boxes, and of masks as a further score.

    pycocotools matches the detections of each image to its objects; the
    matches are kept, for AP does not add up over images. The numbers are
    those of mmdet's ``CocoMetric`` on the images of the loader: IoU 0.50 to
    0.95, any area, 100 detections an image and category, crowds ignored.

    Args:
        coco (COCO): Annotations, of pycocotools.
        cat_ids (Sequence[int]): Category of each label,
            ``CocoDataset.cat_ids``.
        with_masks (bool): Whether masks are scored too. Defaults to False.
    """

    def __init__(
        self, coco: Any, cat_ids: Sequence[int], with_masks: bool = False
    ) -> None:
        self.coco = coco
        self.cat_ids = list(cat_ids)
        self.iou_types = IOU_TYPES if with_masks else IOU_TYPES[:1]

    def measure(self, sample: Any) -> ImageMatches:
        """Match the detections of one image.

        Args:
            sample (DetDataSample): With ``pred_instances`` at the image's
                original size, ``img_id`` and ``ori_shape``.

        Returns:
            ImageMatches: Its matches.

        Raises:
            ValueError: If the image is not in the annotation file, masks
                are missing, or detections are not finite, of an unknown
                class or not at the original size.
        """
        image_id = self._image_id(sample)
        found = sample.pred_instances
        self._check(found, sample)
        entries = {'bbox': box_entries(found, image_id, self.cat_ids)}
        if 'segm' in self.iou_types:
            entries['segm'] = mask_entries(found, image_id, self.cat_ids)
        image, truth = self.coco.imgs[image_id], self._truth(image_id)
        return ImageMatches(
            image_id,
            {
                iou_type: match_image(
                    image, truth, detections, self.cat_ids, iou_type
                )
                for iou_type, detections in entries.items()
            },
        )

    def describe(
        self, sample: Any
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Count ``objects`` but crowds, and ``detections``."""
        truth = self._truth(self._image_id(sample))
        objects = sum(not entry.get('iscrowd') for entry in truth)
        return {'objects': objects}, {'detections': len(sample.pred_instances)}

    def gather(
        self, coarse: Sequence | None, fine: Sequence
    ) -> DetectionImages:
        """Put the matches of all images together."""
        return DetectionImages(self.iou_types, coarse, fine)

    def _truth(self, image_id: int) -> list[Entry]:
        ids = self.coco.getAnnIds(imgIds=[image_id], catIds=self.cat_ids)
        return self.coco.loadAnns(ids)

    def _image_id(self, sample: Any) -> int:
        if 'img_id' not in sample:
            raise ValueError(
                'the data samples carry no img_id to find their objects by: '
                "add 'img_id' to the meta_keys of PackDetInputs in the test "
                'pipeline'
            )
        if sample.img_id not in self.coco.imgs:
            raise ValueError(
                f'image {sample.img_id!r} is not among the '
                f'{len(self.coco.imgs)} images of the annotation file: '
                'score a loader on the data set that the file belongs to'
            )
        return sample.img_id

    def _check(self, found: Any, sample: Any) -> None:
        if 'segm' in self.iou_types and 'masks' not in found:
            raise ValueError(
                'masks are to be scored but the model predicted none: use '
                'with_masks=False for a model of boxes'
            )
        if not len(found):
            return
        values = [found.bboxes.reshape(-1), found.scores]
        if not all(bool(value.isfinite().all()) for value in values):
            raise ValueError(
                'boxes or scores are not finite: the weights diverged in '
                'training'
            )
        if int(found.labels.max()) >= len(self.cat_ids):
            raise ValueError(
                f'the model predicts class {int(found.labels.max())}, the '
                f'data set has {len(self.cat_ids)} classes: set num_classes '
                'of the box heads, or the classes of the data set'
            )
        height, width = sample.ori_shape
        right, bottom = found.bboxes.detach().cpu().max(0).values[2:].tolist()
        room = 1 + ROOM * max(height, width)
        if right > width + room or bottom > height + room:
            raise ValueError(
                f'boxes reach to ({right:.0f}, {bottom:.0f}), the image is '
                f'{width} x {height} (width x height): predict with '
                'rescale=True, and keep scale_factor and ori_shape in '
                'meta_keys'
            )


def box_entries(
    found: Any, image_id: int, cat_ids: Sequence[int]
) -> list[Entry]:
    """Write boxes (x1, y1, x2, y2) in COCO's result format."""
    boxes = found.bboxes.detach().cpu().double().numpy()
    boxes[:, 2:] -= boxes[:, :2]
    return [
        {**entry, 'bbox': box.tolist(), 'area': float(box[2] * box[3])}
        for entry, box in zip(
            _entries(found, found.scores, image_id, cat_ids),
            boxes,
            strict=True,
        )
    ]


def mask_entries(
    found: Any, image_id: int, cat_ids: Sequence[int]
) -> list[Entry]:
    """Write masks (n, H, W), or encoded ones, in COCO's result format."""
    from pycocotools import mask as coder

    masks = found.masks
    if hasattr(masks, 'detach'):
        masks = masks.detach().cpu().numpy().astype(np.uint8)
        masks = [coder.encode(np.asfortranarray(mask)) for mask in masks]
    scores = found.get('mask_scores', found.scores)
    return [
        {**entry, 'segmentation': mask, 'area': float(coder.area(mask))}
        for entry, mask in zip(
            _entries(found, scores, image_id, cat_ids), masks, strict=True
        )
    ]


def _entries(
    found: Any, scores: Any, image_id: int, cat_ids: Sequence[int]
) -> list[Entry]:
    pairs = zip(found.labels.tolist(), scores.tolist(), strict=True)
    return [
        {
            # Matched objects note the number: 0 would say unmatched.
            'id': number,
            'image_id': image_id,
            'category_id': cat_ids[label],
            'score': score,
            'iscrowd': 0,
        }
        for number, (label, score) in enumerate(pairs, start=1)
    ]
