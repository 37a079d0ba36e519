"""MambaScope-S, miniImageNet: refine ratio 0.6, as in Table 5.

Host:    mmpretrain
Data:    as in mambascope_s.py
Command: python tools/train.py configs/miniimagenet/mambascope_s_ratio_0_6.py
Cost:    300 epochs of the images of 100 classes, both stages; not timed here
Paper:   no such number; Table 5 fits ImageNet-1K only
Ours:    accuracy not trained here
"""

_base_ = './mambascope_s.py'

model = dict(backbone=dict(refine_ratio=0.6))
