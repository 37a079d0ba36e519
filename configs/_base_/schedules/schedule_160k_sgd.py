"""160k iterations of SGD, 16 images per step: mmseg's for ResNet."""

_base_ = './schedule_160k.py'

max_iters = 160000

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [
    dict(
        type='PolyLR',
        power=0.9,
        eta_min=1e-4,
        by_epoch=False,
        begin=0,
        end=max_iters,
    ),
]
