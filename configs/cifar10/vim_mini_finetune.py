"""The small ViM, trained for two more epochs.

Host:    mmpretrain
Data:    as in vim_mini.py
Command: python tools/train.py configs/cifar10/vim_mini_finetune.py
Cost:    a quarter of an hour on one CPU core
Paper:   no such experiment
Ours:    see docs/results/what_to_refine.md
"""

_base_ = './vim_mini.py'

# The last epoch of vim_mini.py.
load_from = 'work_dirs/vim_mini/epoch_8.pth'
max_epochs = 2

optim_wrapper = dict(optimizer=dict(lr=5e-4))
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
