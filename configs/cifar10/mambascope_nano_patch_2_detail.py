"""The same, refining what halving loses, coarse tokens woven in.

Host:    mmpretrain
Data:    as in vim_mini.py
Command:
python tools/train.py configs/cifar10/mambascope_nano_patch_2_detail.py
Cost:    25 minutes on one CPU core
Paper:   no such experiment
Ours:    see docs/results/what_to_refine.md
"""

_base_ = './mambascope_nano_patch_2.py'

model = dict(backbone=dict(score_metric='detail', token_order='woven'))
