"""MambaScope (64 wide, 6 blocks) on rendered pictures: needs no data.

Host:    mmpretrain
Data:    rendered while it trains
Command: python tools/train.py configs/demo/mambascope_nano.py
Cost:    half an hour on one CPU core
Paper:   no such experiment
Ours:    comes with the package: mmscope.from_pretrained('demo')
"""

# Of the CIFAR-10 runs: model, loaders' settings, hooks.
_base_ = '../cifar10/mambascope_mini.py'

num_classes = 8
max_iters = 1200
batch_size = 64

model = dict(
    data_preprocessor=dict(
        num_classes=num_classes,
        mean=[127.5, 127.5, 127.5],
        std=[64.0, 64.0, 64.0],
    ),
    backbone=dict(
        arch=dict(num_layers=6),
        img_size=64,
        # 8 x 8 fine tokens, 4 x 4 coarse ones.
        patch_size=8,
        refine_ratio=0.5,
        score_metric='detail',
        token_order='woven',
    ),
    head=dict(num_classes=num_classes),
)

pictures = dict(_delete_=True, type='mmscope.RenderedObjects', side=64)
# Also right for files, which `mmscope infer` and from_pretrained read.
test_pipeline = [
    dict(type='mmscope.LoadImage'),
    dict(type='Resize', scale=(64, 64)),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    # No picture is seen twice.
    dataset=dict(
        **pictures,
        num_images=batch_size * max_iters,
        pipeline=[
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(**pictures, num_images=800, seed=1, pipeline=test_pipeline),
)
test_dataloader = dict(
    dataset=dict(**pictures, num_images=2000, seed=2, pipeline=test_pipeline),
)

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
    checkpoint=dict(by_epoch=False, interval=250, max_keep_ckpts=2),
)
