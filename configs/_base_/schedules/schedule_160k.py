"""160k iterations of AdamW, 16 images per step (appendix A of the paper)."""

max_iters = 160000
warmup_iters = 1500
# Rates, skips, positions and the backbone's own norms do not decay either:
# the constructor asks the model.

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmscope.OptimWrapperConstructor',
    optimizer=dict(
        type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01
    ),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6,
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
# 160,000 steps * 16 images / 20,210 images = 126.7 epochs of ADE20K.
auto_scale_lr = dict(enable=False, base_batch_size=16)

train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=16000
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook',
        by_epoch=False,
        interval=16000,
        max_keep_ckpts=2,
        save_best='mIoU',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)
