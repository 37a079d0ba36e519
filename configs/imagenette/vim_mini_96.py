"""A small ViM (64 wide, 8 blocks, patch 8) on Imagenette at 96 x 96 pixels.

Host:    mmpretrain
Data:    MMSCOPE_IMAGENETTE=FOLDER (default data/imagenette) with train and
         val, one folder a class in each
Command: python tools/train.py configs/imagenette/vim_mini_96.py
Cost:    from scratch, half an hour on one CPU core for 2,400 images
Paper:   no such experiment
Ours:    see docs/results/what_to_refine.md
"""

_base_ = '../cifar10/vim_mini.py'

data_root = '{{$MMSCOPE_IMAGENETTE:data/imagenette}}'
side = 96
max_epochs = 30

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    # 12 x 12 fine tokens, 6 x 6 coarse ones.
    backbone=dict(img_size=side, patch_size=8),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=side, crop_ratio_range=(0.35, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=side, edge='short'),
    dict(type='CenterCrop', crop_size=side),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=32,
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    dataset=dict(data_root=data_root, pipeline=test_pipeline),
)
# There is no third split: the last epoch is scored, none is chosen.
test_dataloader = dict(
    dataset=dict(
        data_root=data_root, data_prefix='val', pipeline=test_pipeline
    ),
)

# By epochs, so that the data set may be of any size.
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=4,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=True,
        begin=4,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
default_hooks = dict(checkpoint=dict(interval=5, max_keep_ckpts=2))
