"""380k iterations of AdamW, 64 images per step (appendix A of the paper).

The paper gives length, batch, rate, decay and weight decay. Warm-up and
layer-wise decay are those of ViM's released detection config, whose own
length is 184,375 iterations with two drops.
"""

max_iters = 380000
warmup_iters = 250
# Rates, skips, positions and the backbone's own norms do not decay either:
# the constructor asks the model.

optim_wrapper = dict(
    # ViM's release trains in float16: type='AmpOptimWrapper'. bfloat16, as
    # --amp has it, is refused by mmcv's NMS (seen on the CPU).
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1
    ),
    # Block i of 24 learns at 0.837 ** (24 - i) times the rate of the heads.
    constructor='mmscope.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.837,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
    ),
)
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
# 380,000 steps * 64 images / 118,287 images = 205.6 epochs of COCO.
auto_scale_lr = dict(enable=False, base_batch_size=64)

train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=20000
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
        interval=20000,
        max_keep_ckpts=2,
        save_best='coco/bbox_mAP',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'),
)
