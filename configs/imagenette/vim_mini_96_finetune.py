"""The small ViM, trained for six more epochs.

Host:    mmpretrain
Data:    as in vim_mini_96.py
Command: python tools/train.py configs/imagenette/vim_mini_96_finetune.py
Cost:    under ten minutes on one CPU core for 2,400 images
Paper:   no such experiment
Ours:    see docs/results/what_to_refine.md
"""

_base_ = './vim_mini_96.py'

# The last epoch of vim_mini_96.py.
load_from = 'work_dirs/vim_mini_96/epoch_30.pth'
max_epochs = 6

optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(_base_.param_scheduler[0], end=1),
    dict(_base_.param_scheduler[1], begin=1, end=max_epochs),
]
train_cfg = dict(max_epochs=max_epochs)
