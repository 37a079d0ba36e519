"""Half of ViM-Ti (96 wide, 12 blocks) + UperNet, CamVid at 256 x 192.

Host:    mmsegmentation
Data:    MMSCOPE_CAMVID=FOLDER (default data/camvid)
Command: python tools/train.py configs/camvid/vim_half_upernet.py
Cost:    from scratch, under an hour on one CPU core
Paper:   no such experiment
Ours:    see docs/results/camvid.md
"""

_base_ = './vim_ti_upernet.py'

embed_dims = 96
crop_size = (192, 256)
scale = (256, 192)
max_iters = 900
warmup_iters = 50

model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=embed_dims, num_layers=12),
        img_size=crop_size,
        drop_path_rate=0.0,
        out_indices=(2, 5, 8, 11),
        init_cfg=None,
    ),
    neck=dict(embed_dim=embed_dims),
    decode_head=dict(in_channels=[embed_dims] * 4, channels=embed_dims),
    auxiliary_head=dict(in_channels=embed_dims, channels=embed_dims),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(
        type='RandomResize',
        scale=scale,
        ratio_range=(0.75, 1.5),
        keep_ratio=True,
    ),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    _base_.tta_pipeline[0],
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(
                    type='Resize',
                    scale=tuple(int(side * ratio) for side in scale),
                    keep_ratio=True,
                )
                for ratio in (0.75, 1.0, 1.25)
            ],
            *_base_.tta_pipeline[1].transforms[1:],
        ],
    ),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(pipeline=test_pipeline),
)
test_dataloader = dict(
    num_workers=1,
    dataset=dict(pipeline=test_pipeline),
)

# Learning from scratch takes a larger rate than fine-tuning.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.05))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=False,
        begin=0,
        end=warmup_iters,
    ),
    dict(
        type='PolyLR',
        power=1.0,
        eta_min=0.0,
        by_epoch=False,
        begin=warmup_iters,
        end=max_iters,
    ),
]
# 900 steps * 8 images / 367 images = 19.6 epochs.
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(interval=100, save_best=None),
)
