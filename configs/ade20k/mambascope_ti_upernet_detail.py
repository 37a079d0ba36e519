"""MambaScope-Ti + UperNet, refining what halving loses, woven.

Host:    mmsegmentation
Weights: of imagenet/mambascope_ti_detail.py, or as in
         mambascope_ti_upernet.py
Command: python tools/train.py configs/ade20k/mambascope_ti_upernet_detail.py
Cost:    160,000 steps of 16 images, both stages; not timed here
Paper:   no such row
Ours:    12.69 M parameters; mIoU not trained here
"""

_base_ = './mambascope_ti_upernet.py'

model = dict(backbone=dict(score_metric='detail', token_order='woven'))
