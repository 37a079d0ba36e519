"""VideoMamba-Ti for images, ImageNet-1K 224 x 224.

Host:    mmpretrain
Command: python tools/train.py configs/imagenet/videomamba_ti.py
Cost:    300 epochs of 1,281,167 images; not timed here
Paper:   no such row; VideoMamba's: 76.9 % top-1, 1.1 GFLOPs (projections and
         patches alone, no scan), 7 M parameters
Ours:    7,148,008 parameters, 1.449 GMACs; accuracy not trained here
Theirs:  8 x 512 images a step at lr 4e-3 (5e-4 x 4096 / 512), weight decay
         0.1, clipped at 5, AutoAugment, no EMA, bfloat16
"""

_base_ = './vim_ti.py'

model = dict(backbone=dict(type='mmscope.VideoMamba'))
