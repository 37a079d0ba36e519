"""The small ViM, trained for one more epoch.

Host:    mmpretrain
Data:    as in vim_mini.py
Command: python tools/train.py configs/cifar10/vim_mini_finetune_1e.py
Cost:    eight minutes on one CPU core
Paper:   no such experiment
Ours:    see docs/results/token_reduction.md
"""

_base_ = './vim_mini_finetune.py'

max_epochs = 1
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=False,
        begin=100,
        end=max_epochs * 704,
    ),
]
train_cfg = dict(max_epochs=max_epochs)
