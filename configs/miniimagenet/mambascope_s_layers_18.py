"""MambaScope-S, miniImageNet: scores of the last 18 layers, Table 7.

Host:    mmpretrain
Data:    as in mambascope_s.py
Command: python tools/train.py configs/miniimagenet/mambascope_s_layers_18.py
Cost:    300 epochs of the images of 100 classes, both stages; not timed here
Paper:   86.8 % top-1
Ours:    accuracy not trained here
"""

_base_ = './mambascope_s.py'

# Read as the last 18 of the 24 blocks, every second one scored (section
# 4.2.1).
model = dict(backbone=dict(score_layers=[6, 8, 10, 12, 14, 16, 18, 20, 22]))
