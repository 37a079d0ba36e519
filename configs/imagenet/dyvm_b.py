"""DyVM-B, ImageNet-1K 224 x 224, from ViM-B (Table 1, row ViM-B + DyVM).

Host:    mmpretrain
Weights: as in dyvm_ti.py
Command: python tools/train.py configs/imagenet/dyvm_b.py
Cost:    30 epochs of 1,281,167 images; not timed here
Paper:   80.0 % top-1, 12.1 GFLOPs, 101 M parameters
Ours:    100,631,134 parameters, 12.041 GMACs; not trained here
Theirs:  4 x 32 images a step at lr 1.25e-5 (5e-5 x 128 / 512)
"""

_base_ = './dyvm_s.py'

model = dict(
    teacher=dict(backbone=dict(arch='base'), head=dict(in_channels=768)),
    teacher_checkpoint='checkpoints/vim_b_in1k.pth',
    backbone=dict(arch='base', reduction=dict(block_keep_ratio=0.7)),
    head=dict(in_channels=768),
)
load_from = 'checkpoints/vim_b_in1k.pth'
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=1.25e-5))
by_epoch = dict(by_epoch=True, convert_to_iter_based=True)
cosine = dict(type='CosineAnnealingLR', eta_min=1e-6, begin=5, end=30)
# From 1e-5.
warmup = dict(type='LinearLR', start_factor=0.8, begin=0, end=5)
param_scheduler = [dict(**warmup, **by_epoch), dict(**cosine, **by_epoch)]
auto_scale_lr = dict(base_batch_size=128)
