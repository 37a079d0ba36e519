"""ResNet-50 + UperNet, ADE20K 512 x 512 (Table 2, row ResNet-50).

Host:    mmsegmentation
Weights: OpenMMLab's resnet50_v1c, which MMEngine downloads
Command: python tools/train.py configs/ade20k/resnet50_upernet.py
Cost:    160,000 steps of 16 images; not timed here
Paper:   41.2 mIoU, 67 M parameters; mmseg publishes 42.05 for this recipe
Ours:    66.52 M parameters; mIoU not trained here
"""

_base_ = [
    '../_base_/models/upernet_resnet50.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/schedule_160k_sgd.py',
    '../_base_/default_runtime.py',
]

# From scratch instead: --cfg-options model.backbone.init_cfg=None
checkpoint = 'open-mmlab://resnet50_v1c'
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
)
