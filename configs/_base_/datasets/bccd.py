"""BCCD: blood cells of three classes, boxes only, 640 x 480.

205 training, 87 validation and 72 test images. MMSCOPE_BCCD names the folder
(default data/bccd) with `images/` and `annotations/instances_{train,val,
test}.json` in COCO's format. test.py scores the test split. Every image has
the same size, so no canvas differs from another.

For other data in this format change `metainfo`, in the order of the file, and
`num_classes` of the model; both are checked before training.
"""

# mmdet's CocoDataset reads the same, and says less about what is wrong.
dataset_type = 'mmscope.CocoDetectionDataset'
data_root = '{{$MMSCOPE_BCCD:data/bccd}}'
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'))
# (longest, shortest) side.
scale = (640, 480)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    # A smear has no upper side.
    dict(
        type='RandomFlip',
        prob=[0.25, 0.25, 0.25],
        direction=['horizontal', 'vertical', 'diagonal'],
    ),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    # After Resize: scores are taken at the original size.
    dict(type='LoadAnnotations', with_bbox=True),
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

train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='images/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='images/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    val_dataloader,
    dataset=dict(
        val_dataloader['dataset'],
        ann_file='annotations/instances_test.json',
    ),
)

val_evaluator = dict(
    type='CocoMetric',
    ann_file=data_root + '/annotations/instances_val.json',
    metric='bbox',
)
test_evaluator = dict(
    val_evaluator,
    ann_file=data_root + '/annotations/instances_test.json',
)
