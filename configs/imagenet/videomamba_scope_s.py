"""Scope on VideoMamba-S, ImageNet-1K 224 x 224.

Host:    mmpretrain
Command: python tools/train.py configs/imagenet/videomamba_scope_s.py
Cost:    300 epochs of 1,281,167 images, both stages; not timed here
Paper:   no such row; it says that the method carries over, without a number
Ours:    26,997,352 parameters; accuracy not trained here
"""

_base_ = './mambascope_s.py'

# cls stands first in both stages; the drop path is VideoMamba's.
model = dict(
    backbone=dict(type='mmscope.VideoMambaScope', drop_path_rate=0.15)
)
