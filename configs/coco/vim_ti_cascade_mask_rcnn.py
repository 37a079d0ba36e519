"""ViM-Ti + Cascade Mask R-CNN, COCO (Table 3, row Vim-Ti).

Host:    mmdetection
Weights: python tools/model_converters/vim_to_mmscope.py SRC CHECKPOINT
Command: python tools/train.py configs/coco/vim_ti_cascade_mask_rcnn.py
Cost:    380,000 steps of 64 images; not timed here
Paper:   45.7 box AP, 39.2 mask AP, 30 M parameters, 352 GFLOPs
Ours:    60.08 M parameters; AP not trained here
"""

_base_ = [
    '../_base_/models/cascade_vim.py',
    '../_base_/datasets/coco.py',
    '../_base_/schedules/schedule_380k.py',
    '../_base_/detection_runtime.py',
]

# From scratch instead: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/vim_ti_in1k.pth'
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.'
        ),
    ),
)
