"""A ViM of 6 blocks, 64 wide, with patches of two pixels (256 tokens).

Host:    mmpretrain
Data:    as in vim_mini.py
Command: python tools/train.py configs/cifar10/vim_nano_patch_2.py
Cost:    40 minutes on one CPU core
Paper:   no such experiment
Ours:    see docs/results/what_to_refine.md
"""

_base_ = './vim_mini.py'

max_epochs = 2

# 16 x 16 fine tokens, 8 x 8 coarse ones: 64 regions.
model = dict(backbone=dict(patch_size=2, arch=dict(num_layers=6)))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=300),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=False,
        begin=300,
        end=max_epochs * 704,
    ),
]
train_cfg = dict(max_epochs=max_epochs)
