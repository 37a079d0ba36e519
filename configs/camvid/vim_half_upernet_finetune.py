"""The trained half of ViM-Ti + UperNet, a third of the steps more.

Host:    mmsegmentation
Data:    MMSCOPE_CAMVID=FOLDER (default data/camvid)
Command: python tools/train.py configs/camvid/vim_half_upernet_finetune.py
Cost:    under ten minutes on one CPU core
Paper:   no such experiment
Ours:    see docs/results/camvid_from_vim.md
"""

_base_ = './vim_half_upernet.py'

# The end of vim_half_upernet.py.
load_from = 'work_dirs/vim_half_upernet/iter_900.pth'
max_iters = 300
warmup_iters = 30

optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(_base_.param_scheduler[0], end=warmup_iters),
    dict(_base_.param_scheduler[1], begin=warmup_iters, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
