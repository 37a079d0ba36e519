"""MambaScope-Ti + UperNet, ADE20K 512 x 512 (Table 2, row MambaScope-Ti).

Host:    mmsegmentation
Weights: the same converter with --target mambascope, or a MambaScope file
Command: python tools/train.py configs/ade20k/mambascope_ti_upernet.py
Cost:    160,000 steps of 16 images, both stages; not timed here
Paper:   41.3 mIoU, 13 M parameters
Ours:    12.69 M parameters; mIoU not trained here
"""

_base_ = [
    '../_base_/models/upernet_mambascope.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/schedule_160k.py',
    '../_base_/default_runtime.py',
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
