"""MambaScope-Ti, ImageNet-1K, refining what halving loses, woven.

Host:    mmpretrain
Data:    as in mambascope_ti.py
Command: python tools/train.py configs/imagenet/mambascope_ti_detail.py
Cost:    300 epochs of 1,281,167 images, both stages; not timed here
Paper:   no such row
Ours:    7,453,480 parameters; accuracy not trained here
"""

_base_ = './mambascope_ti.py'

model = dict(backbone=dict(score_metric='detail', token_order='woven'))
