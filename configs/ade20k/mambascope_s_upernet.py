"""MambaScope-S + UperNet, ADE20K 512 x 512 (Table 2, row MambaScope-S).

Host:    mmsegmentation
Weights: the same converter with --target mambascope, or a MambaScope file
Command: python tools/train.py configs/ade20k/mambascope_s_upernet.py
Cost:    160,000 steps of 16 images, both stages; not timed here
Paper:   45.5 mIoU, 48 M parameters
Ours:    46.79 M parameters; mIoU not trained here
"""

_base_ = [
    '../_base_/models/upernet_mambascope.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/schedule_160k.py',
    '../_base_/default_runtime.py',
]

# From scratch instead: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/mambascope_s_in1k.pth'
model = dict(
    backbone=dict(
        arch='small',
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.'
        ),
    ),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384] * 4, channels=384),
    auxiliary_head=dict(in_channels=384),
)
