"""MambaScope-S, ImageNet-1K, refining what halving loses, woven.

Host:    mmpretrain
Data:    as in mambascope_s.py
Command: python tools/train.py configs/imagenet/mambascope_s_detail.py
Cost:    300 epochs of 1,281,167 images, both stages; not timed here
Paper:   no such row
Ours:    26,997,352 parameters; accuracy not trained here
"""

_base_ = './mambascope_s.py'

model = dict(backbone=dict(score_metric='detail', token_order='woven'))
