"""MambaScope-S, miniImageNet: sum of both ranks (no row).

Host:    mmpretrain
Data:    as in mambascope_s.py
Command:
python tools/train.py configs/miniimagenet/mambascope_s_detail_and_max_norm.py
Cost:    300 epochs of the images of 100 classes, both stages; not timed here
Paper:   no such row
Ours:    accuracy not trained here
"""

_base_ = './mambascope_s.py'

model = dict(backbone=dict(score_metric='detail_and_max_norm'))
