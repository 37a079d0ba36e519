"""DyVM-S, ImageNet-1K 224 x 224, from ViM-S (Table 1, row ViM-S + DyVM).

Host:    mmpretrain
Weights: as in dyvm_ti.py
Command: python tools/train.py configs/imagenet/dyvm_s.py
Cost:    30 epochs of 1,281,167 images; not timed here
Paper:   78.8 % top-1, 3.5 GFLOPs, 27 M parameters
Ours:    26,594,110 parameters, 3.239 GMACs; not trained here. With every
         scan direction it has 3.345; DyVM's own text says 3.29
Theirs:  4 x 64 images a step at lr 2.5e-5 (5e-5 x 256 / 512)
"""

_base_ = './dyvm_ti.py'

model = dict(
    teacher=dict(backbone=dict(arch='small'), head=dict(in_channels=384)),
    teacher_checkpoint='checkpoints/vim_s_in1k.pth',
    backbone=dict(arch='small', reduction=dict(token_keep_ratio=0.7)),
    head=dict(in_channels=384),
)
load_from = 'checkpoints/vim_s_in1k.pth'
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(optimizer=dict(lr=2.5e-5))
by_epoch = dict(by_epoch=True, convert_to_iter_based=True)
cosine = dict(type='CosineAnnealingLR', eta_min=1e-6, begin=5, end=30)
# From 1e-5.
warmup = dict(type='LinearLR', start_factor=0.4, begin=0, end=5)
param_scheduler = [dict(**warmup, **by_epoch), dict(**cosine, **by_epoch)]
auto_scale_lr = dict(base_batch_size=256)
