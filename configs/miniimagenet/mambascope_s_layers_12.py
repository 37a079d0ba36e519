"""MambaScope-S, miniImageNet: scores of the last 12 layers, Table 7.

Host:    mmpretrain
Data:    as in mambascope_s.py
Command: python tools/train.py configs/miniimagenet/mambascope_s_layers_12.py
Cost:    300 epochs of the images of 100 classes, both stages; not timed here
Paper:   87.0 % top-1 in the table, 87.6 in the text
Ours:    accuracy not trained here
"""

_base_ = './mambascope_s.py'

# Read as the last 12 of the 24 blocks, every second one scored (section
# 4.2.1).
# The same model as mambascope_s.py, which need not be trained twice.
model = dict(backbone=dict(score_layers=[12, 14, 16, 18, 20, 22]))
