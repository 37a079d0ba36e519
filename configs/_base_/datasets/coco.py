"""COCO 2017 (80 classes) with boxes and masks, 1024 x 1024.

118,287 training and 5,000 validation images. MMSCOPE_COCO names the folder
(default data/coco) with `train2017/`, `val2017/` and
`annotations/instances_{train,val}2017.json`. What is wrong with folder, file
or classes is said before training; annotations that cannot be used are
counted in one warning (`strict=True` in the data set: an error).

Training scales an image to fit 0.1 to 2 times 1024 and crops what exceeds
1024 (large-scale jitter); the model's preprocessor pads to the square. In
test the longer side is 1024, as in ViM's released recipe: there "shorter side
1024" has 1024 as its upper bound, too. The paper's words alone are
`scale=(8192, 1024)` in the test pipeline's Resize, with
`model.data_preprocessor.pad_size_divisor=32`; then canvases differ.
"""

# mmdet's CocoDataset reads the same, and says less about what is wrong.
dataset_type = 'mmscope.CocoDetectionDataset'
data_root = '{{$MMSCOPE_COCO:data/coco}}'
scale = (1024, 1024)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomResize',
        scale=scale,
        ratio_range=(0.1, 2.0),
        keep_ratio=True,
    ),
    dict(
        type='RandomCrop',
        crop_type='absolute_range',
        crop_size=scale,
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    # A crop without objects is an image of background, not an error.
    dict(
        type='FilterAnnotations',
        min_gt_bbox_wh=(1e-2, 1e-2),
        keep_empty=False,
    ),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    # After Resize: scores are taken at the original size.
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
        ),
    ),
]

# 8 GPUs x 8 images = the paper's 64. Elsewhere change batch_size, or let
# auto_scale_lr fit the learning rate.
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type='CocoMetric',
    ann_file=data_root + '/annotations/instances_val2017.json',
    metric=['bbox', 'segm'],
    format_only=False,
)
test_evaluator = val_evaluator
