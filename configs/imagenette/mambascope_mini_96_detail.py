"""The same, refining what halving loses, coarse tokens woven in.

Host:    mmpretrain
Data:    as in vim_mini_96.py
Command: python tools/train.py configs/imagenette/mambascope_mini_96_detail.py
Cost:    ten minutes on one CPU core for 2,400 images
Paper:   no such experiment
Ours:    see docs/results/what_to_refine.md
"""

_base_ = './mambascope_mini_96.py'

model = dict(backbone=dict(score_metric='detail', token_order='woven'))
