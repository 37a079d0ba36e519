"""The nano ViM with patches of two pixels, trained for one more epoch.

Host:    mmpretrain
Data:    as in vim_mini.py
Command: python tools/train.py configs/cifar10/vim_nano_patch_2_finetune.py
Cost:    20 minutes on one CPU core
Paper:   no such experiment
Ours:    see docs/results/what_to_refine.md
"""

_base_ = './vim_mini_finetune_1e.py'

# The last epoch of vim_nano_patch_2.py.
load_from = 'work_dirs/vim_nano_patch_2/epoch_2.pth'

model = dict(backbone=dict(patch_size=2, arch=dict(num_layers=6)))
