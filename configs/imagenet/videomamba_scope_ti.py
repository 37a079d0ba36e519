"""Scope on VideoMamba-Ti, ImageNet-1K 224 x 224.

Host:    mmpretrain
Command: python tools/train.py configs/imagenet/videomamba_scope_ti.py
Cost:    300 epochs of 1,281,167 images, both stages; not timed here
Paper:   no such row; it says that the method carries over, without a number
Ours:    7,453,480 parameters; accuracy not trained here
"""

_base_ = './mambascope_ti.py'

# cls stands first in both stages, as in VideoMamba.
model = dict(backbone=dict(type='mmscope.VideoMambaScope'))
