"""DyVM-Ti, ImageNet-1K 224 x 224, from ViM-Ti (Table 1, row ViM-T + DyVM).

Host:    mmpretrain
Weights: tools/model_converters/vim_to_mmscope.py SRC DST (start and teacher)
Command: python tools/train.py configs/imagenet/dyvm_ti.py
Cost:    30 epochs of 1,281,167 images; not timed here
Paper:   75.2 % top-1, 1.3 GFLOPs, 7 M parameters
Ours:    7,367,086 parameters, 1.215 GMACs; not trained here. 1.3 would take
         more than all scan directions: their recipe aims at 80 %
Theirs:  4 x 128 images a step at lr 3e-5, 30 epochs, decay 1e-8, float32;
         an EMA runs along, but scores are the weights' own: none here
"""

_base_ = './vim_ti.py'

max_epochs = 30
teacher_backbone = dict(type='mmscope.VisionMamba', arch='tiny', img_size=224)
teacher_head = dict(type='LinearClsHead', num_classes=1000, in_channels=192)
model = dict(
    type='mmscope.DistilledClassifier',
    teacher=dict(
        type='ImageClassifier', backbone=teacher_backbone, head=teacher_head
    ),
    teacher_checkpoint='checkpoints/vim_ti_in1k.pth',
    backbone=dict(reduction=dict(type='mmscope.DyVM', token_keep_ratio=0.9)),
)
load_from = 'checkpoints/vim_ti_in1k.pth'
train_dataloader = dict(batch_size=512)
optim_wrapper = dict(optimizer=dict(lr=3e-5, weight_decay=1e-8))
by_epoch = dict(by_epoch=True, convert_to_iter_based=True)
cosine = dict(type='CosineAnnealingLR', eta_min=1e-6, begin=5, end=max_epochs)
# From 1e-5.
warmup = dict(type='LinearLR', start_factor=1 / 3, begin=0, end=5)
param_scheduler = [dict(**warmup, **by_epoch), dict(**cosine, **by_epoch)]
auto_scale_lr = dict(base_batch_size=512)
train_cfg = dict(max_epochs=max_epochs)
hooks = ('mmscope.ClassCheckHook', 'mmscope.TokenReductionHook')
custom_hooks = [dict(type=hook) for hook in hooks]
