"""HiddenAlign on the small ViM, fine-tuned for one epoch.

Host:    mmpretrain
Data:    as in vim_mini.py
Command: python tools/train.py configs/cifar10/ha_mini.py
Cost:    ten minutes on one CPU core
Paper:   no such experiment
Ours:    see docs/results/token_reduction.md
"""

_base_ = './vim_mini_finetune_1e.py'

model = dict(
    # 64 patches, 52 from block 2 on, then 42 and 34.
    backbone=dict(
        reduction=dict(
            type='mmscope.HiddenAlign',
            prune_layers=(2, 4, 6),
            keep_ratio=0.8,
        ),
    ),
)
