"""ImageNet-1K in plain folders, 224 x 224.

MMSCOPE_IMAGENET names the folder (default data/imagenet) that holds
`train/<class>/*` and `val/<class>/*`; classes are the sorted folder names and
no meta file is read. Any other data in such folders works too. Augmentation
is that of ViM's released script (RandAugment m9 with deviation 0.5,
increasing; random erasing 0.25 with noise).
"""

dataset_type = 'mmscope.ImageFolder'
data_root = '{{$MMSCOPE_IMAGENET:data/imagenet}}'
# Images are BGR until the preprocessor.
bgr_mean = [103.53, 116.28, 123.675]
bgr_std = [57.375, 57.12, 58.395]

train_pipeline = [
    dict(type='mmscope.LoadImage'),
    dict(
        type='RandomResizedCrop',
        scale=224,
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
    ),
    dict(
        type='RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=bgr_mean,
        fill_std=bgr_std,
    ),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='mmscope.LoadImage'),
    dict(
        type='ResizeEdge',
        scale=256,
        edge='short',
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]

# The paper's 256 images per step in ONE process. On n GPUs give each
# 256 / n: --cfg-options train_dataloader.batch_size=32 on eight.
train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    # ViM's default: an epoch takes a third of the images, three times each
    # with other augmentations. Every image once: type='DefaultSampler'.
    sampler=dict(type='RepeatAugSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix='val',
        # Labels count these class folders, in both splits.
        same_classes_as='train',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
