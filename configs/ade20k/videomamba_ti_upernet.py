"""VideoMamba-Ti + UperNet, ADE20K 512 x 512.

Host:    mmsegmentation
Weights: the converter with --source videomamba
Command: python tools/train.py configs/ade20k/videomamba_ti_upernet.py
Cost:    160,000 steps of 16 images; not timed here
Paper:   no such row, nor in VideoMamba's
Ours:    12.31 M parameters; mIoU not trained here
"""

_base_ = './vim_ti_upernet.py'

# From scratch instead: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/videomamba_ti_in1k.pth'
model = dict(
    backbone=dict(
        type='mmscope.VideoMamba', init_cfg=dict(checkpoint=checkpoint)
    ),
)
