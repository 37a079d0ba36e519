"""Scope on Mamba-Reg-S, ImageNet-1K 224 x 224.

Host:    mmpretrain
Data:    MMSCOPE_IMAGENET=FOLDER (default data/imagenet), plain folders
Command: python tools/train.py configs/imagenet/mambareg_scope_s.py
Cost:    300 epochs of 1,281,167 images, both stages; not timed here
Paper:   no such row; it says that the method carries over, without a number
Ours:    29,001,448 parameters; accuracy not trained here
"""

_base_ = './mambascope_s.py'

# The registers are woven into the tokens of both stages.
model = dict(
    backbone=dict(type='mmscope.MambaRegScope'), head=dict(in_channels=2304)
)
