"""Scope on VideoMamba-Ti + Cascade Mask R-CNN, COCO.

Host:    mmdetection
Weights: the converter with --source videomamba --target mambascope
Command:
python tools/train.py configs/coco/videomamba_scope_ti_cascade_mask_rcnn.py
Cost:    380,000 steps of 64 images, both stages; not timed here
Paper:   no such row
Ours:    60.59 M parameters; AP not trained here
"""

_base_ = './mambascope_ti_cascade_mask_rcnn.py'

# From scratch instead: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/videomamba_scope_ti_in1k.pth'
model = dict(
    backbone=dict(
        type='mmscope.VideoMambaScope', init_cfg=dict(checkpoint=checkpoint)
    ),
)
