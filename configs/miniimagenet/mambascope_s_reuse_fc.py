"""MambaScope-S, miniImageNet: reuse by a linear layer, Fig. 5a.

Host:    mmpretrain
Data:    as in mambascope_s.py
Command: python tools/train.py configs/miniimagenet/mambascope_s_reuse_fc.py
Cost:    300 epochs of the images of 100 classes, both stages; not timed here
Paper:   87.3 % top-1
Ours:    accuracy not trained here
"""

_base_ = './mambascope_s.py'

model = dict(backbone=dict(feature_reuse='linear'))
