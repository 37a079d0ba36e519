"""The trained half of ViM-Ti + Cascade R-CNN, a third of the steps more.

Host:    mmdetection
Data:    MMSCOPE_BCCD=FOLDER (default data/bccd)
Command:
python tools/train.py configs/bccd/vim_half_cascade_rcnn_finetune.py
Cost:    20 minutes on one CPU core
Paper:   no such experiment
Ours:    see docs/results/bccd_from_vim.md
"""

_base_ = './vim_half_cascade_rcnn.py'

# The end of vim_half_cascade_rcnn.py.
load_from = 'work_dirs/vim_half_cascade_rcnn/iter_800.pth'
max_iters = 270
warmup_iters = 30

optim_wrapper = dict(optimizer=dict(lr=2.5e-4))
param_scheduler = [
    dict(_base_.param_scheduler[0], end=warmup_iters),
    dict(_base_.param_scheduler[1], begin=warmup_iters, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=90))
