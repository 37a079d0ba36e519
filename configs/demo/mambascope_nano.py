"""MambaScope (64 wide, 6 blocks) on rendered pictures: needs no data.

Host:    mmpretrain
Data:    rendered while it trains
Command: python tools/train.py configs/demo/mambascope_nano.py
Cost:    half an hour on one CPU core
Paper:   no such experiment
Ours:    comes with the package: mmscope.from_pretrained('demo')
"""

_base_ = [
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/classification_runtime.py',
]

embed_dims = 64
num_classes = 8
max_iters = 1200
batch_size = 64

model = dict(
    type='mmscope.CoarseToFineClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        num_classes=num_classes,
        mean=[127.5, 127.5, 127.5],
        std=[64.0, 64.0, 64.0],
        to_rgb=True,
    ),
    backbone=dict(
        type='mmscope.MambaScope',
        arch=dict(embed_dims=embed_dims, num_layers=6),
        img_size=64,
        # 8 x 8 fine tokens, 4 x 4 coarse ones.
        patch_size=8,
        refine_ratio=0.5,
        score_metric='detail',
        token_order='woven',
    ),
    head=dict(
        type='mmscope.CoarseToFineClsHead',
        num_classes=num_classes,
        in_channels=embed_dims,
        loss=dict(type='CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
)

pictures = dict(type='mmscope.RenderedObjects', side=64)
# Also right for files, which `mmscope infer` and from_pretrained read.
test_pipeline = [
    dict(type='mmscope.LoadImage'),
    dict(type='Resize', scale=(64, 64)),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,
    # No picture is seen twice.
    dataset=dict(
        **pictures,
        num_images=batch_size * max_iters,
        pipeline=[
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ],
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=0,
    dataset=dict(
        **pictures,
        num_images=800,
        seed=1,
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=0,
    dataset=dict(
        **pictures,
        num_images=2000,
        seed=2,
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=False,
        begin=0,
        end=150,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=False,
        begin=150,
        end=max_iters,
    ),
]
auto_scale_lr = dict(base_batch_size=batch_size)
train_cfg = dict(
    _delete_=True,
    type='IterBasedTrainLoop',
    max_iters=max_iters,
    val_interval=250,
)
log_processor = dict(by_epoch=False)
custom_hooks = [
    dict(type='mmscope.ConfidenceGateHook', exit_threshold=0.8),
    dict(type='mmscope.InformativeSelectionHook', begin=2 / 3),
]
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(
        by_epoch=False, interval=250, max_keep_ckpts=1, save_best=None
    ),
)
