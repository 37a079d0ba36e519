"""ViM-S + UperNet, ADE20K 512 x 512 (Table 2, row Vim-S).

Host:    mmsegmentation
Weights: python tools/model_converters/vim_to_mmscope.py SRC CHECKPOINT
Command: python tools/train.py configs/ade20k/vim_s_upernet.py
Cost:    160,000 steps of 16 images; not timed here
Paper:   44.9 mIoU, 46 M parameters
Ours:    45.45 M parameters; mIoU not trained here
"""

_base_ = [
    '../_base_/models/upernet_vim.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/schedule_160k.py',
    '../_base_/default_runtime.py',
]

# From scratch instead: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/vim_s_in1k.pth'
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
