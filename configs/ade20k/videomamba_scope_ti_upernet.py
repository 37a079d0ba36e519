"""Scope on VideoMamba-Ti + UperNet, ADE20K 512 x 512.

Host:    mmsegmentation
Weights: the converter with --source videomamba --target mambascope
Command: python tools/train.py configs/ade20k/videomamba_scope_ti_upernet.py
Cost:    160,000 steps of 16 images, both stages; not timed here
Paper:   no such row
Ours:    12.69 M parameters; mIoU not trained here
"""

_base_ = './mambascope_ti_upernet.py'

# From scratch instead: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/videomamba_scope_ti_in1k.pth'
model = dict(
    backbone=dict(
        type='mmscope.VideoMambaScope', init_cfg=dict(checkpoint=checkpoint)
    ),
)
