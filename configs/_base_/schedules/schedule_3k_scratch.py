"""3,000 iterations of AdamW for small detectors that start from nothing.

The parameters that do not decay are those of the 380k schedule. Without
pretrained layers there is nothing that should learn slower than the rest, so
there is no layer-wise decay.
"""

_base_ = './schedule_380k.py'

max_iters = 3000
warmup_iters = 100

optim_wrapper = dict(
    optimizer=dict(lr=5e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(_base_.param_scheduler[0], end=warmup_iters),
    dict(_base_.param_scheduler[1], begin=warmup_iters, end=max_iters),
]
auto_scale_lr = dict(base_batch_size=8)
train_cfg = dict(max_iters=max_iters, val_interval=500)
default_hooks = dict(checkpoint=dict(interval=500))
