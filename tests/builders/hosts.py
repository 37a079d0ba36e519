"""Hosts of all three frameworks around a scope, or a wrapped ResNet."""

from __future__ import annotations

from builders import classification, detection, segmentation

# Of a ResNet-18 with 4 channels in its first stage.
WIDTHS = [4, 8, 16, 32]


def exit_only(classes, out_type='featmap', **options):
    """Config of an early exit around the host's own small ResNet."""
    head = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': classes}
    return {
        'type': 'mmscope.ExitOnly',
        'out_type': out_type,
        'exit_head': head if out_type == 'featmap' else None,
        'backbone': {
            'type': 'ResNet',
            'depth': 18,
            'stem_channels': 4,
            'base_channels': 4,
            'out_indices': (0, 1, 2, 3),
            **options,
        },
    }


def resnet(classes, out_type='featmap'):
    """Config of that ResNet alone."""
    return exit_only(classes, out_type)['backbone']


def on_resnet(model, backbone=exit_only):
    """Put the wrapped ResNet into a dense host's config."""
    detector = 'decode_head' not in model
    classes = detection.CLASSES if detector else segmentation.CLASSES
    model = {**model, 'backbone': backbone(len(classes))}
    if detector:
        model['neck'] = {
            'type': 'FPN',
            'in_channels': WIDTHS,
            'out_channels': detection.CHANNELS,
            'num_outs': model['neck'].get('num_outs', 5),
        }
        return model
    model.pop('neck', None)
    for name in ('decode_head', 'auxiliary_head'):
        if name in model:
            model[name] = _widened(model[name])
    return model


def _widened(head):
    head, index = dict(head), head.get('in_index')
    if isinstance(head['in_channels'], list):
        head['in_channels'] = WIDTHS
    else:
        head['in_channels'] = WIDTHS[index]
    return head


def mask_rcnn():
    """Config of a small Mask R-CNN."""
    model = detection.faster_rcnn()
    model['type'] = 'MaskRCNN'
    model['data_preprocessor'] = detection.preprocessor()
    model['roi_head'].update(
        mask_roi_extractor=detection.extractor(4),
        mask_head=detection.mask_head(),
    )
    return model


def segmentor(kind, host='EncoderDecoder'):
    """Config of a small segmentor whose head is 'fcn' or 'segformer'."""
    model = segmentation.segmentor(host)
    model.pop('auxiliary_head')
    common = {
        'channels': segmentation.DIMS,
        'num_classes': len(segmentation.CLASSES),
        'norm_cfg': {'type': 'BN'},
        'align_corners': False,
    }
    model['decode_head'] = {
        'fcn': {
            'type': 'FCNHead',
            'in_channels': segmentation.DIMS,
            'in_index': 3,
            'num_convs': 1,
        },
        'segformer': {
            'type': 'SegformerHead',
            'in_channels': [segmentation.DIMS] * 4,
            'in_index': [0, 1, 2, 3],
        },
    }[kind]
    if kind == 'fcn':
        # It reads one level; a neck would make others for nobody.
        model.pop('neck')
    model['decode_head'].update(common)
    return model


def _attention(levels=None):
    config = {'embed_dims': DIMS, 'num_heads': 2, 'batch_first': True}
    if levels:
        config.update(num_levels=levels, num_points=2)
    return {**config, 'dropout': 0.0}


DIMS = 16
FFN = {
    'embed_dims': DIMS,
    'feedforward_channels': 32,
    'num_fcs': 2,
    'ffn_drop': 0.0,
    'act_cfg': {'type': 'ReLU', 'inplace': True},
}
POSITIONS = {'num_feats': DIMS // 2, 'normalize': True}


def _mask_head(channels, classes):
    """What mmdet's and mmseg's Mask2Former have in common."""
    return {
        'type': 'Mask2FormerHead',
        'in_channels': [channels] * 4,
        'strides': [4, 8, 16, 32],
        'feat_channels': DIMS,
        'out_channels': DIMS,
        'num_queries': 6,
        'num_transformer_feat_level': 3,
        'pixel_decoder': {
            'type': 'mmdet.MSDeformAttnPixelDecoder',
            'num_outs': 3,
            'norm_cfg': {'type': 'GN', 'num_groups': 4},
            'act_cfg': {'type': 'ReLU'},
            'encoder': {
                'num_layers': 1,
                'layer_cfg': {
                    'self_attn_cfg': _attention(3),
                    'ffn_cfg': FFN,
                },
            },
            'positional_encoding': POSITIONS,
        },
        'enforce_decoder_input_project': False,
        'positional_encoding': POSITIONS,
        'transformer_decoder': {
            'return_intermediate': True,
            'num_layers': 1,
            'layer_cfg': {
                'self_attn_cfg': _attention(),
                'cross_attn_cfg': _attention(),
                'ffn_cfg': FFN,
            },
        },
        'loss_cls': {
            'type': 'mmdet.CrossEntropyLoss',
            'use_sigmoid': False,
            'reduction': 'mean',
            'class_weight': [1.0] * classes + [0.1],
        },
        'loss_mask': {
            'type': 'mmdet.CrossEntropyLoss',
            'use_sigmoid': True,
            'reduction': 'mean',
        },
        'loss_dice': {
            'type': 'mmdet.DiceLoss',
            'use_sigmoid': True,
            'activate': True,
            'reduction': 'mean',
            'naive_dice': True,
            'eps': 1.0,
        },
    }


MASK_TRAINING = {
    'num_points': 32,
    'oversample_ratio': 3.0,
    'importance_sample_ratio': 0.75,
    'assigner': {
        'type': 'mmdet.HungarianAssigner',
        'match_costs': [
            {'type': 'mmdet.ClassificationCost'},
            {'type': 'mmdet.CrossEntropyLossCost', 'use_sigmoid': True},
            {'type': 'mmdet.DiceCost', 'pred_act': True, 'eps': 1.0},
        ],
    },
    'sampler': {'type': 'mmdet.MaskPseudoSampler'},
}


def mask2former():
    """Config of mmdet's Mask2Former on instances, small."""
    classes = len(detection.CLASSES)
    return {
        'type': 'Mask2Former',
        'data_preprocessor': detection.preprocessor(),
        'backbone': detection.backbone(),
        'neck': detection.neck(num_outs=4),
        'panoptic_head': {
            **_mask_head(detection.CHANNELS, classes),
            'num_things_classes': classes,
            'num_stuff_classes': 0,
        },
        'panoptic_fusion_head': {
            'type': 'MaskFormerFusionHead',
            'num_things_classes': classes,
            'num_stuff_classes': 0,
            'loss_panoptic': None,
        },
        'train_cfg': MASK_TRAINING,
        'test_cfg': {
            'panoptic_on': False,
            'semantic_on': False,
            'instance_on': True,
            'max_per_image': 5,
            'iou_thr': 0.8,
            'filter_low_score': True,
        },
    }


def seg_mask2former(host='EncoderDecoder'):
    """Config of mmseg's Mask2Former, small."""
    model = segmentor('segformer', host)
    classes = len(segmentation.CLASSES)
    model['decode_head'] = {
        **_mask_head(segmentation.DIMS, classes),
        'num_classes': classes,
        'align_corners': False,
        'train_cfg': MASK_TRAINING,
    }
    return model


def classifier(host='ImageClassifier', **options):
    """Config of a classifier on the wrapped ResNet."""
    plain = {'type': 'LinearClsHead', 'topk': (1,)}
    head = None if host == 'mmscope.CoarseToFineClassifier' else plain
    model = classification.classifier(host, head, **options)
    model['backbone'] = exit_only(3, 'cls_token')
    model['head']['in_channels'] = WIDTHS[-1]
    return model
