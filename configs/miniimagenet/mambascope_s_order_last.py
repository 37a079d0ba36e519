"""MambaScope-S, miniImageNet: important tokens last, Fig. 5b.

Host:    mmpretrain
Data:    as in mambascope_s.py
Command: python tools/train.py configs/miniimagenet/mambascope_s_order_last.py
Paper:   86.9 % top-1
Ours:    accuracy not trained here
"""

_base_ = './mambascope_s.py'

model = dict(backbone=dict(token_order='last'))
