"""Small real detectors, COCO files and runners for the tests."""

from __future__ import annotations

import json

import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from builders.runs import short_training

CLASSES = ('square', 'flat')
DIMS = 16
CHANNELS = 8
SIZE = 64
NORM = {'type': 'mmscope.LN2d'}
CODER = {
    'type': 'DeltaXYWHBBoxCoder',
    'target_means': [0.0] * 4,
    'target_stds': [0.1, 0.1, 0.2, 0.2],
}


def write_coco(root, num=4, size=(48, 64), empty=(1,), seed=0):
    """Write images of squares and bars, some empty, and a COCO file."""
    rng = np.random.default_rng(seed)
    (root / 'images').mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for i in range(num):
        pixels = rng.normal(90, 10, (*size, 3))
        images.append(
            {
                'id': i,
                'file_name': f'{i}.png',
                'height': size[0],
                'width': size[1],
            }
        )
        for label in (0, 1)[: 0 if i in empty else 2]:
            x, y = (int(v) for v in rng.integers(0, 24, 2))
            w, h = ((20, 20), (30, 10))[label]
            pixels[y : y + h, x : x + w] = (220, 60)[label]
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': i,
                    'category_id': label + 1,
                    'bbox': [x, y, w, h],
                    'area': w * h,
                    'iscrowd': 0,
                    'segmentation': [corners],
                }
            )
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(root / 'images' / f'{i}.png')
    content = {
        'images': images,
        'annotations': annotations,
        'categories': [
            {'id': i + 1, 'name': name} for i, name in enumerate(CLASSES)
        ],
    }
    (root / 'coco.json').write_text(json.dumps(content))
    return root


def preprocessor(divisor=SIZE, pad_mask=True):
    """Config of a preprocessor that pads to squares of ``divisor``."""
    return {
        'type': 'DetDataPreprocessor',
        'mean': [127.5] * 3,
        'std': [64.0] * 3,
        'pad_mask': pad_mask,
        'pad_size_divisor': divisor,
    }


def backbone(**options):
    """Config of a small MambaScope."""
    return {
        'type': 'mmscope.MambaScope',
        'arch': {'embed_dims': DIMS, 'num_layers': 2},
        'img_size': SIZE,
        'out_type': 'featmap',
        'exit_head': {
            'type': 'mmscope.MultiLabelExitHead',
            'num_classes': len(CLASSES),
        },
        **options,
    }


def neck(**options):
    """Config of a small pyramid."""
    return {
        'type': 'mmscope.SimpleFPN',
        'backbone_channels': DIMS,
        'out_channels': CHANNELS,
        'norm_cfg': NORM,
        **options,
    }


def extractor(size):
    """Config of a RoI extractor for regions of ``size`` cells."""
    return {
        'type': 'SingleRoIExtractor',
        'roi_layer': {
            'type': 'RoIAlign',
            'output_size': size,
            'sampling_ratio': 0,
        },
        'out_channels': CHANNELS,
        'featmap_strides': [4, 8, 16, 32],
    }


def anchors():
    """Config of the anchors of five levels."""
    return {
        'type': 'AnchorGenerator',
        'scales': [4],
        # Two: mmdet's RPN fails on a level of one single anchor.
        'ratios': [0.5, 1.0],
        'strides': [4, 8, 16, 32, 64],
    }


def rpn():
    """Config of a small RPN."""
    return {
        'type': 'RPNHead',
        'in_channels': CHANNELS,
        'feat_channels': CHANNELS,
        'num_convs': 2,
        'anchor_generator': anchors(),
        'bbox_coder': {**CODER, 'target_stds': [1.0] * 4},
        'loss_cls': {'type': 'CrossEntropyLoss', 'use_sigmoid': True},
        'loss_bbox': {'type': 'L1Loss'},
    }


def box_head(**options):
    """Config of a small 4conv1fc head."""
    return {
        'type': 'Shared4Conv1FCBBoxHead',
        'in_channels': CHANNELS,
        'conv_out_channels': CHANNELS,
        'fc_out_channels': 16,
        'roi_feat_size': 3,
        'num_classes': len(CLASSES),
        'norm_cfg': NORM,
        'bbox_coder': CODER,
        'reg_class_agnostic': True,
        'loss_cls': {'type': 'CrossEntropyLoss'},
        'loss_bbox': {'type': 'L1Loss'},
        **options,
    }


def mask_head():
    """Config of a small mask head."""
    return {
        'type': 'FCNMaskHead',
        'num_convs': 2,
        'in_channels': CHANNELS,
        'conv_out_channels': CHANNELS,
        'num_classes': len(CLASSES),
        'norm_cfg': NORM,
        'loss_mask': {'type': 'CrossEntropyLoss', 'use_mask': True},
    }


def train_cfg(ious=(0.5, 0.6, 0.7)):
    """Config of assigners and samplers."""

    def stage(positive, negative, num, fraction, ground_truth):
        return {
            'assigner': {
                'type': 'MaxIoUAssigner',
                'pos_iou_thr': positive,
                'neg_iou_thr': negative,
                'min_pos_iou': negative,
                'match_low_quality': not ground_truth,
                'ignore_iof_thr': -1,
            },
            'sampler': {
                'type': 'RandomSampler',
                'num': num,
                'pos_fraction': fraction,
                'neg_pos_ub': -1,
                'add_gt_as_proposals': ground_truth,
            },
            'mask_size': 8,
            'allowed_border': -1,
            'pos_weight': -1,
            'debug': False,
        }

    return {
        'rpn': stage(0.7, 0.3, 64, 0.5, False),
        'rpn_proposal': {
            'nms_pre': 50,
            'max_per_img': 30,
            'nms': {'type': 'nms', 'iou_threshold': 0.7},
            'min_bbox_size': 0,
        },
        'rcnn': [stage(iou, iou, 32, 0.25, True) for iou in ious],
    }


def test_cfg():
    """Config of proposals and results; every score is kept."""
    return {
        'rpn': {
            'nms_pre': 50,
            'max_per_img': 20,
            'nms': {'type': 'nms', 'iou_threshold': 0.7},
            'min_bbox_size': 0,
        },
        'rcnn': {
            'score_thr': 0.0,
            'nms': {'type': 'nms', 'iou_threshold': 0.5},
            'max_per_img': 10,
            'mask_thr_binary': 0.5,
        },
    }


def cascade(host='mmscope.EarlyExitCascadeRCNN', **options):
    """Config of a small Cascade Mask R-CNN."""
    return {
        'type': host,
        'data_preprocessor': preprocessor(),
        'backbone': backbone(),
        'neck': neck(),
        'rpn_head': rpn(),
        'roi_head': {
            'type': 'mmscope.OneMaskCascadeRoIHead',
            'num_stages': 3,
            'stage_loss_weights': [1, 0.5, 0.25],
            'bbox_roi_extractor': extractor(3),
            'bbox_head': [box_head()] * 3,
            'mask_roi_extractor': extractor(4),
            'mask_head': mask_head(),
        },
        'train_cfg': train_cfg(),
        'test_cfg': test_cfg(),
        **options,
    }


def faster_rcnn():
    """Config of a small Faster R-CNN, boxes only."""
    train = train_cfg()
    return {
        'type': 'FasterRCNN',
        'data_preprocessor': preprocessor(pad_mask=False),
        'backbone': backbone(),
        'neck': neck(),
        'rpn_head': rpn(),
        'roi_head': {
            'type': 'StandardRoIHead',
            'bbox_roi_extractor': extractor(3),
            'bbox_head': box_head(reg_class_agnostic=False),
        },
        'train_cfg': {**train, 'rcnn': train['rcnn'][0]},
        'test_cfg': test_cfg(),
    }


def retinanet():
    """Config of a small single-stage detector, boxes only."""
    train = train_cfg()['rpn']
    train['assigner'].update(pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0)
    train['sampler'] = {'type': 'PseudoSampler'}
    return {
        'type': 'RetinaNet',
        'data_preprocessor': preprocessor(pad_mask=False),
        'backbone': backbone(),
        'neck': neck(),
        'bbox_head': {
            'type': 'RetinaHead',
            'num_classes': len(CLASSES),
            'in_channels': CHANNELS,
            'feat_channels': CHANNELS,
            'stacked_convs': 1,
            'norm_cfg': NORM,
            'anchor_generator': anchors(),
            'bbox_coder': {**CODER, 'target_stds': [1.0] * 4},
            'loss_cls': {'type': 'FocalLoss', 'use_sigmoid': True},
            'loss_bbox': {'type': 'L1Loss'},
        },
        'train_cfg': train,
        'test_cfg': {
            'nms_pre': 50,
            'min_bbox_size': 0,
            'score_thr': 0.0,
            'nms': {'type': 'nms', 'iou_threshold': 0.5},
            'max_per_img': 10,
        },
    }


def dataloader(root, train, batch_size=2, with_mask=True, scale=(64, 64)):
    """Config of a loader over what :func:`write_coco` wrote."""
    pipeline = [
        {'type': 'LoadImageFromFile'},
        {'type': 'Resize', 'scale': scale, 'keep_ratio': True},
        {
            'type': 'LoadAnnotations',
            'with_bbox': True,
            'with_mask': with_mask,
        },
        {
            'type': 'PackDetInputs',
            'meta_keys': (
                'img_id',
                'img_path',
                'ori_shape',
                'img_shape',
                'scale_factor',
            ),
        },
    ]
    if train:
        pipeline[1:3] = pipeline[2:0:-1]
    return {
        'batch_size': batch_size,
        'num_workers': 0,
        'sampler': {
            'type': 'InfiniteSampler' if train else 'DefaultSampler',
            'shuffle': False,
        },
        'dataset': {
            'type': 'CocoDataset',
            'metainfo': {'classes': CLASSES},
            'data_root': str(root),
            'ann_file': 'coco.json',
            'data_prefix': {'img': 'images/'},
            'filter_cfg': {'filter_empty_gt': False},
            'test_mode': not train,
            'pipeline': pipeline,
        },
    }


def runner(root, work_dir, model, iters=2, with_mask=True, **overrides):
    """Build a real runner for a few iterations on the CPU."""
    evaluator = {
        'type': 'CocoMetric',
        'ann_file': str(root / 'coco.json'),
        'metric': ['bbox', 'segm'] if with_mask else ['bbox'],
    }
    config = {
        **short_training(work_dir, iters, 'DetLocalVisualizer', iters),
        'model': model,
        'default_scope': 'mmdet',
        'train_dataloader': dataloader(root, True, with_mask=with_mask),
        'val_dataloader': dataloader(root, False, with_mask=with_mask),
        'test_dataloader': dataloader(root, False, with_mask=with_mask),
        'val_evaluator': evaluator,
        'test_evaluator': evaluator,
    }
    return Runner.from_cfg(Config({**config, **overrides}))
