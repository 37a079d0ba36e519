"""MambaScope-Ti + Cascade Mask R-CNN, COCO (Table 3, row Ours-Ti).

Host:    mmdetection
Weights: the same converter with --target mambascope, or a MambaScope file
Command: python tools/train.py configs/coco/mambascope_ti_cascade_mask_rcnn.py
Cost:    380,000 steps of 64 images, both stages; not timed here
Paper:   45.8 box AP, 39.4 mask AP, 30 M parameters, 321 GFLOPs
Ours:    60.59 M parameters; AP not trained here
"""

_base_ = [
    '../_base_/models/cascade_mambascope.py',
    '../_base_/datasets/coco.py',
    '../_base_/schedules/schedule_380k.py',
    '../_base_/detection_runtime.py',
]

# From scratch instead: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/mambascope_ti_in1k.pth'
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.'
        ),
    ),
)
