"""ViM-Ti of stride 8 ("Vim-tiny+"), ImageNet-1K 224 x 224, fine-tuned.

Host:    mmpretrain
Weights: the converter with --patch-stride 8: SRC of stride 8 to test it, SRC
         of stride 16 and --img-size 224 to start from (load_from)
Command: python tools/train.py configs/imagenet/vim_ti_plus.py
Cost:    30 epochs of 1,281,167 images; not timed here
Paper:   no such row; ViM's: 78.3 % top-1, 94.2 % top-5
Ours:    7,250,344 parameters, 5.369 GMACs; accuracy not trained here
ViM's:   8 x 128 images a step, 30 epochs, lr constant at 1e-5 (5e-6 x 1024 /
         512), decay 1e-8, no drop path, float32; EMA not scored, none here
"""

_base_ = './vim_ti.py'

# Patches of 16 pixels that overlap by half: 27 x 27 of them.
model = dict(backbone=dict(patch_stride=8))

load_from = 'checkpoints/vim_ti_plus_in1k.pth'
max_epochs = 30
# 8 GPUs x 128 images = ViM's 1024. Elsewhere change batch_size, or let
# auto_scale_lr fit the learning rate.
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=1e-5, weight_decay=1e-8))
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=True)]
auto_scale_lr = dict(base_batch_size=1024)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mmscope.ClassCheckHook')]
