"""MambaScope-S, miniImageNet: important tokens last, Fig. 5b.

Host:    mmpretrain
Data:    as in mambascope_s.py
Command: python tools/train.py configs/miniimagenet/mambascope_s_order_last.py
Cost:    300 epochs of the images of 100 classes, both stages; not timed here
Paper:   86.9 % top-1
Ours:    accuracy not trained here
"""

_base_ = './mambascope_s.py'

model = dict(backbone=dict(token_order='last'))
