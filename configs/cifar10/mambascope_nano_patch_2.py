"""MambaScope with 64 regions, for one epoch from the trained ViM.

Host:    mmpretrain
Data:    as in vim_mini.py
Command: python tools/train.py configs/cifar10/mambascope_nano_patch_2.py
Cost:    25 minutes on one CPU core
Paper:   no such experiment
Ours:    see docs/results/what_to_refine.md
"""

_base_ = './vim_nano_patch_2_finetune.py'

model = dict(
    type='mmscope.CoarseToFineClassifier',
    backbone=dict(type='mmscope.MambaScope', refine_ratio=0.8),
    head=dict(type='mmscope.CoarseToFineClsHead'),
)
# Selection is on from the first step: the weights are trained.
custom_hooks = [dict(type='mmscope.ConfidenceGateHook')]
