"""MambaScope on the small ViM, CIFAR-10, from scratch.

Host:    mmpretrain
Data:    as in vim_mini.py
Command: python tools/train.py configs/cifar10/mambascope_mini.py
Cost:    about an hour on one CPU core
Paper:   no such experiment
Ours:    see docs/results/cifar10.md
"""

# Schedule, data and seed are the ViM run's own.
_base_ = './vim_mini.py'

model = dict(
    type='mmscope.CoarseToFineClassifier',
    backbone=dict(type='mmscope.MambaScope', refine_ratio=0.8),
    head=dict(type='mmscope.CoarseToFineClsHead'),
)
custom_hooks = [
    dict(type='mmscope.ConfidenceGateHook'),
    dict(type='mmscope.InformativeSelectionHook', begin=2 / 3),
]
