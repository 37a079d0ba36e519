"""The same with half of the regions: 25 of 49.

Host:    mmpretrain
Data:    as in mambascope_ti.py
Command:
python tools/train.py configs/imagenet/mambascope_ti_detail_ratio_0_5.py
Cost:    300 epochs of 1,281,167 images, both stages; not timed here
Paper:   no such row
Ours:    7,453,480 parameters; accuracy not trained here
"""

_base_ = './mambascope_ti_detail.py'

model = dict(backbone=dict(refine_ratio=0.5))
