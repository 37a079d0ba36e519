"""DyVM-S + UperNet, ADE20K 512 x 512 (Table 2, row Vim-S + DyVM).

Host:    mmsegmentation
Weights: python tools/model_converters/vim_to_mmscope.py SRC CHECKPOINT
Command: python tools/train.py configs/ade20k/dyvm_s_upernet.py
Cost:    160,000 steps of 32 images; not timed here
Paper:   42.0 mIoU
Ours:    46.25 M parameters; mIoU not trained here
Theirs:  as dyvm_ti_upernet.py, with 2 x 16 images a step at lr 1.2e-4
"""

_base_ = './dyvm_ti_upernet.py'

checkpoint = 'checkpoints/vim_s_in1k.pth'
model = dict(
    backbone=dict(
        arch='small',
        reduction=dict(token_keep_ratio=0.8),
        init_cfg=dict(checkpoint=checkpoint),
    ),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384] * 4, channels=384),
    auxiliary_head=dict(in_channels=384),
)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=1.2e-4))
auto_scale_lr = dict(base_batch_size=32)
