"""Random annotations and detections in COCO's format."""

import contextlib
import io
from types import SimpleNamespace

import numpy as np
import torch

CAT_IDS = [3, 7, 9, 20]
HEIGHT, WIDTH = 60, 80


class Found(SimpleNamespace):
    """Predictions, as mmengine's InstanceData gives them."""

    def __len__(self):
        return len(self.scores)

    def __contains__(self, name):
        return hasattr(self, name)

    def get(self, name, default):
        return getattr(self, name, default)


class Sample(SimpleNamespace):
    def __contains__(self, name):
        return hasattr(self, name)


def quiet(function, *args, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*args, **kwargs)


def random_boxes(rng, number):
    """Boxes x, y, w, h on a coarse raster, so that many overlap much."""
    corner = rng.integers(0, 5, (number, 2)) * 8.0
    return np.concatenate([corner, rng.integers(2, 4, (number, 2)) * 8.0], 1)


def rectangle(box):
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def crowd(box):
    """Run-length code of a box, column by column."""
    x, y, w, h = (int(v) for v in box)
    mask = np.zeros((WIDTH, HEIGHT), dtype=int)
    mask[x : x + w, y : y + h] = 1
    flat = mask.reshape(-1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    counts = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
    return {'counts': counts, 'size': [HEIGHT, WIDTH]}


def random_coco(rng, number=12, objects=6):
    """Annotations with crowds; one image in four has no objects."""
    from pycocotools.coco import COCO

    # Not in the order of the file.
    ids = rng.permutation(np.arange(10, 10 + 3 * number, 3)).tolist()
    annotations = []
    for place, image_id in enumerate(ids):
        boxes = random_boxes(rng, 0 if place % 4 == 1 else objects)
        for box in boxes.tolist():
            is_crowd = int(rng.random() < 0.15)
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': image_id,
                    # Objects of the last category are nowhere.
                    'category_id': CAT_IDS[rng.integers(3)],
                    'bbox': box,
                    'area': box[2] * box[3],
                    'iscrowd': is_crowd,
                    'segmentation': (crowd if is_crowd else rectangle)(box),
                }
            )
    coco = COCO()
    coco.dataset = {
        'images': [
            {'id': i, 'height': HEIGHT, 'width': WIDTH, 'file_name': f'{i}'}
            for i in ids
        ],
        'annotations': annotations,
        'categories': [{'id': i, 'name': str(i)} for i in [1, *CAT_IDS]],
    }
    quiet(coco.createIndex)
    return coco


def random_sample(rng, coco, image_id, quality, masks=False, empty=0.1):
    """Detections near the objects, and false ones; scores tie often."""
    near = [
        (ann['bbox'], CAT_IDS.index(ann['category_id']))
        for ann in coco.imgToAnns[image_id]
        if rng.random() < quality
    ]
    number = 0 if rng.random() < empty else 5
    boxes = np.array(
        [box for box, _ in near] + random_boxes(rng, number).tolist()
    ).reshape(-1, 4)
    boxes = boxes + rng.integers(-2, 3, boxes.shape) * (1 - quality)
    labels = [label for _, label in near] + rng.integers(0, 4, number).tolist()
    boxes[:, 2:] += boxes[:, :2]
    scores = rng.integers(1, 6, len(boxes)) / 8
    found = Found(
        bboxes=torch.tensor(boxes, dtype=torch.float32),
        scores=torch.tensor(scores, dtype=torch.float32),
        labels=torch.tensor(labels, dtype=torch.long),
    )
    if masks:
        found.masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.bool)
        for mask, box in zip(
            found.masks, boxes.round().astype(int), strict=True
        ):
            x1, y1, x2, y2 = box.clip(0)
            mask[y1:y2, x1:x2] = True
    return Sample(
        img_id=image_id, ori_shape=(HEIGHT, WIDTH), pred_instances=found
    )


def coco_stats(coco, samples, images=None, iou_type='bbox'):
    """AP, AP50 and AP75 in percent by pycocotools alone; NaN for none."""
    from pycocotools import mask as coder
    from pycocotools.cocoeval import COCOeval

    results = []
    for sample in samples:
        found = sample.pred_instances
        for index in range(len(found)):
            x1, y1, x2, y2 = found.bboxes[index].tolist()
            entry = {
                'image_id': sample.img_id,
                'category_id': CAT_IDS[int(found.labels[index])],
                'score': float(found.scores[index]),
                'bbox': [x1, y1, x2 - x1, y2 - y1],
            }
            if iou_type == 'segm':
                del entry['bbox']
                mask = np.asfortranarray(found.masks[index].byte().numpy())
                entry['segmentation'] = coder.encode(mask)
            results.append(entry)

    def evaluate():
        evaluation = COCOeval(coco, coco.loadRes(results), iou_type)
        evaluation.params.catIds = CAT_IDS
        if images is not None:
            evaluation.params.imgIds = images
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation.stats[:3]

    stats = quiet(evaluate)
    return np.where(stats < 0, np.nan, 100 * stats)
