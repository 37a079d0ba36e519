"""MambaScope-S, miniImageNet: score momentum 0.99, Table 6.

Host:    mmpretrain
Data:    as in mambascope_s.py
Command: python tools/train.py configs/miniimagenet/mambascope_s_beta_0_99.py
Cost:    300 epochs of the images of 100 classes, both stages; not timed here
Paper:   87.6 % top-1
Ours:    accuracy not trained here
"""

_base_ = './mambascope_s.py'

# The same model as mambascope_s.py, which need not be trained twice.
model = dict(backbone=dict(score_momentum=0.99))
