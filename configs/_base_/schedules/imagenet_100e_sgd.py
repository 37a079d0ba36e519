"""100 epochs of SGD, 256 images per step: mmpretrain's for ResNet."""

_base_ = './imagenet_300e.py'

max_epochs = 100

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [
    dict(
        type='MultiStepLR',
        by_epoch=True,
        milestones=[30, 60, 90],
        gamma=0.1,
    ),
]
train_cfg = dict(max_epochs=max_epochs)
