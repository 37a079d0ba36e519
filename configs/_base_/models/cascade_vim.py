"""Cascade Mask R-CNN on the dense ViM-tiny backbone (60.08 M parameters).

ViM's released detection recipe, which is ViTDet's with another backbone:
simple feature pyramid, two convolutions in the RPN, four convolutions and one
linear layer in each box head, boxes regressed without regard to the class,
one mask head, channel LayerNorm. Differences: the released detector has
rotary position embeddings beside the absolute ones, no cls token and no norm
behind the last block, ours the absolute ones, the cls token and the norm;
stages weigh 1, 0.5, 0.25 as everywhere in mmdet.
"""

num_classes = 80
embed_dims = 192
channels = 256
image_size = 1024
norm_cfg = dict(type='mmscope.LN2d', eps=1e-6)
l1_loss = dict(type='L1Loss', loss_weight=1.0)
roi_strides = [4, 8, 16, 32]

model = dict(
    type='CascadeRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        # No side exceeds 1024, so every image gets a square of 1024, in
        # training and test: what is found in it depends on no other image.
        pad_size_divisor=image_size,
    ),
    backbone=dict(
        type='mmscope.VisionMamba',
        arch='tiny',
        img_size=image_size,
        drop_path_rate=0.1,
        out_type='featmap',
        out_indices=-1,
    ),
    neck=dict(
        type='mmscope.SimpleFPN',
        backbone_channels=embed_dims,
        out_channels=channels,
        norm_cfg=norm_cfg,
        num_outs=5,
    ),
    rpn_head=dict(
        type='RPNHead',
        in_channels=channels,
        feat_channels=channels,
        num_convs=2,
        anchor_generator=dict(
            type='AnchorGenerator',
            scales=[8],
            ratios=[0.5, 1.0, 2.0],
            strides=[4, 8, 16, 32, 64],
        ),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder',
            target_means=[0.0] * 4,
            target_stds=[1.0] * 4,
        ),
        loss_cls=dict(
            type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0
        ),
        loss_bbox=l1_loss,
    ),
    roi_head=dict(
        type='mmscope.OneMaskCascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=channels,
            featmap_strides=roi_strides,
        ),
        bbox_head=[
            dict(
                type='Shared4Conv1FCBBoxHead',
                in_channels=channels,
                conv_out_channels=channels,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=num_classes,
                norm_cfg=norm_cfg,
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder',
                    target_means=[0.0] * 4,
                    target_stds=[centre, centre, side, side],
                ),
                reg_class_agnostic=True,
                loss_cls=dict(
                    type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0
                ),
                loss_bbox=l1_loss,
            )
            for centre, side in ((0.1, 0.2), (0.05, 0.1), (1 / 30, 1 / 15))
        ],
        mask_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
            out_channels=channels,
            featmap_strides=roi_strides,
        ),
        mask_head=dict(
            type='FCNMaskHead',
            num_convs=4,
            in_channels=channels,
            conv_out_channels=channels,
            num_classes=num_classes,
            norm_cfg=norm_cfg,
            loss_mask=dict(
                type='CrossEntropyLoss', use_mask=True, loss_weight=1.0
            ),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                min_pos_iou=0.3,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type='RandomSampler',
                num=256,
                pos_fraction=0.5,
                neg_pos_ub=-1,
                add_gt_as_proposals=False,
            ),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(
            nms_pre=2000,
            max_per_img=1000,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0,
        ),
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=iou,
                    neg_iou_thr=iou,
                    min_pos_iou=iou,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
                sampler=dict(
                    type='RandomSampler',
                    num=512,
                    pos_fraction=0.25,
                    neg_pos_ub=-1,
                    add_gt_as_proposals=True,
                ),
                mask_size=28,
                pos_weight=-1,
                debug=False,
            )
            for iou in (0.5, 0.6, 0.7)
        ],
    ),
    test_cfg=dict(
        rpn=dict(
            nms_pre=1000,
            max_per_img=1000,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0,
        ),
        rcnn=dict(
            score_thr=0.05,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=100,
            mask_thr_binary=0.5,
        ),
    ),
)

custom_hooks = [dict(type='mmscope.ClassCheckHook')]
