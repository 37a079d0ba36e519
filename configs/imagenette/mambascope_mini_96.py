"""MambaScope for six epochs from the trained small ViM.

Host:    mmpretrain
Data:    as in vim_mini_96.py
Command: python tools/train.py configs/imagenette/mambascope_mini_96.py
Cost:    ten minutes on one CPU core for 2,400 images
Paper:   no such experiment
Ours:    see docs/results/what_to_refine.md
"""

_base_ = './vim_mini_96_finetune.py'

model = dict(
    type='mmscope.CoarseToFineClassifier',
    backbone=dict(type='mmscope.MambaScope', refine_ratio=0.8),
    head=dict(type='mmscope.CoarseToFineClsHead'),
)
# Selection is on from the first step: the weights are trained.
custom_hooks = [dict(type='mmscope.ConfidenceGateHook')]
