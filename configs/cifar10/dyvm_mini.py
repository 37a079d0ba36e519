"""DyVM on the small ViM, trained for one epoch.

Host:    mmpretrain
Data:    as in vim_mini.py
Command: python tools/train.py configs/cifar10/dyvm_mini.py
Cost:    fifteen minutes on one CPU core
Paper:   no such experiment
Ours:    see docs/results/token_reduction.md
"""

_base_ = './r_meeto_mini.py'

model = dict(
    token_weight=0.5,
    ratio_weight=10,
    # 64 patches, 51 from block 2 on, then 40 and 32.
    backbone=dict(
        reduction=dict(
            _delete_=True,
            type='mmscope.DyVM',
            prune_layers=(2, 4, 6),
            token_keep_ratio=0.8,
            block_keep_ratio=0.8,
        ),
    ),
)
