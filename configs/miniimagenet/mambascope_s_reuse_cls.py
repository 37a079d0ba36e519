"""MambaScope-S, miniImageNet: reuse of the cls token too, Fig. 5a.

Host:    mmpretrain
Data:    as in mambascope_s.py
Command: python tools/train.py configs/miniimagenet/mambascope_s_reuse_cls.py
Cost:    300 epochs of the images of 100 classes, both stages; not timed here
Paper:   87.0 % top-1
Ours:    accuracy not trained here
"""

_base_ = './mambascope_s.py'

model = dict(backbone=dict(feature_reuse='mlp_with_cls'))
