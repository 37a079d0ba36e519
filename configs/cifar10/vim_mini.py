"""A small ViM (64 wide, 8 blocks, patch 4) on CIFAR-10, from scratch.

Host:    mmpretrain
Data:    MMSCOPE_CIFAR10=FOLDER (default data/cifar10) with train, val and
         test, one folder a class in each; docs/results/cifar10.md says how
Command: python tools/train.py configs/cifar10/vim_mini.py
Cost:    under an hour on one CPU core
Paper:   no such experiment
Ours:    see docs/results/cifar10.md
"""

_base_ = [
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/classification_runtime.py',
]

data_root = '{{$MMSCOPE_CIFAR10:data/cifar10}}'
embed_dims = 64
num_classes = 10
max_epochs = 8

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        num_classes=num_classes,
        mean=[125.3, 123.0, 113.9],
        std=[63.0, 62.1, 66.7],
        to_rgb=True,
    ),
    backbone=dict(
        type='mmscope.VisionMamba',
        arch=dict(embed_dims=embed_dims, num_layers=8),
        img_size=32,
        # 8 x 8 fine tokens, 4 x 4 coarse ones.
        patch_size=4,
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=num_classes,
        in_channels=embed_dims,
        loss=dict(type='CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        data_prefix='train',
        pipeline=train_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=0,
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        data_prefix='val',
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=0,
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        data_prefix='test',
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator

# 45,000 images / 64 = 704 steps an epoch; the first 300 warm up.
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=False,
        begin=0,
        end=300,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=False,
        begin=300,
        end=max_epochs * 704,
    ),
]
auto_scale_lr = dict(base_batch_size=64)
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=-1, save_best=None))
