"""MambaScope-Ti + lite Cascade Mask R-CNN learns 12 images of COCO by heart.

A check that boxes, masks, exits and refinement learn at all, on a CPU.
Host:    mmdetection
Data:    MMSCOPE_COCO=FOLDER; its first 12 training images
Command:
python tools/train.py configs/coco/mambascope_ti_cascade_mask_rcnn_mini.py
Cost:    400 steps of 2 images, both stages; see docs/results/coco_mini.md
Paper:   no such experiment
Ours:    see docs/results/coco_mini.md
"""

_base_ = './mambascope_ti_cascade_mask_rcnn_lite.py'

num_images = 12
image_size = 256
scale = (image_size, image_size)
max_iters = 400
warmup_iters = 30

model = dict(
    # Half the time of 'detection', and enough here.
    coarse_loss='feature',
    data_preprocessor=dict(pad_size_divisor=image_size),
    backbone=dict(img_size=image_size, drop_path_rate=0.0, init_cfg=None),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=300, max_per_img=100),
        rcnn=[
            dict(stage, sampler=dict(stage.sampler, num=32))
            for stage in _base_.model.train_cfg.rcnn
        ],
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=100)),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        # `instances` are the truth of the 12 images, where an annotation
        # file would hold that of all.
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'instances',
        ),
    ),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    dataset=dict(indices=num_images, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        indices=num_images,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=None)
test_evaluator = val_evaluator

optim_wrapper = dict(
    optimizer=dict(lr=3e-4, weight_decay=0.0),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(_base_.param_scheduler[0], end=warmup_iters),
    dict(_base_.param_scheduler[1], begin=warmup_iters, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=100)
default_hooks = dict(
    logger=dict(interval=10),
    # Nothing scores before anything is found.
    checkpoint=dict(interval=100, save_best=None),
)
