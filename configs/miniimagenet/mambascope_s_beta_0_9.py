"""MambaScope-S, miniImageNet: score momentum 0.9, Table 6.

Host:    mmpretrain
Data:    as in mambascope_s.py
Command: python tools/train.py configs/miniimagenet/mambascope_s_beta_0_9.py
Cost:    300 epochs of the images of 100 classes, both stages; not timed here
Paper:   87.4 % top-1
Ours:    accuracy not trained here
"""

_base_ = './mambascope_s.py'

model = dict(backbone=dict(score_momentum=0.9))
