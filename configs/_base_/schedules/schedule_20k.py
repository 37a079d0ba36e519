"""20k iterations of AdamW for small data sets, 16 images per step.

The optimizer is that of the 160k schedule; only lengths differ.
"""

_base_ = './schedule_160k.py'

max_iters = 20000
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6,
        by_epoch=False,
        begin=0,
        end={{_base_.warmup_iters}},
    ),
    dict(
        type='PolyLR',
        power=1.0,
        eta_min=0.0,
        by_epoch=False,
        begin={{_base_.warmup_iters}},
        end=max_iters,
    ),
]
train_cfg = dict(max_iters=max_iters, val_interval=1000)
default_hooks = dict(checkpoint=dict(interval=1000))
