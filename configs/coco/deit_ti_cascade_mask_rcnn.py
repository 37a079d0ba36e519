"""DeiT-Ti + Cascade Mask R-CNN, COCO (Table 3, row DeiT-Ti).

Host:    mmdetection
Data:    MMSCOPE_COCO=FOLDER (default data/coco)
Weights: the converter with --source vit --target vitdet
Command: python tools/train.py configs/coco/deit_ti_cascade_mask_rcnn.py
Cost:    380,000 steps of 64 images; not timed here
Paper:   44.4 box AP, 38.1 mask AP; no parameters and FLOPs printed
Ours:    58.65 M parameters; AP not trained here
"""

_base_ = [
    '../_base_/models/cascade_vitdet.py',
    '../_base_/datasets/coco.py',
    '../_base_/schedules/schedule_380k.py',
    '../_base_/detection_runtime.py',
]

# From scratch instead: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/deit_ti_vitdet_in1k.pth'
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.'
        ),
    ),
)
# ViTDet's decay of the rate from block to block.
optim_wrapper = dict(
    paramwise_cfg=dict(
        layer_decay_rate=0.7,
        custom_keys={'backbone.pos_embed': dict(decay_mult=0.0)},
    )
)
