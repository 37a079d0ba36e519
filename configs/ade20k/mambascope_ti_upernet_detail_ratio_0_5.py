"""The same with half of the regions.

Host:    mmsegmentation
Weights: as in mambascope_ti_upernet_detail.py
Command:
python tools/train.py configs/ade20k/mambascope_ti_upernet_detail_ratio_0_5.py
Cost:    160,000 steps of 16 images, both stages; not timed here
Paper:   no such row
Ours:    12.69 M parameters; mIoU not trained here
"""

_base_ = './mambascope_ti_upernet_detail.py'

model = dict(backbone=dict(refine_ratio=0.5))
