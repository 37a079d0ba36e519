"""VideoMamba-S for images, ImageNet-1K 224 x 224.

Host:    mmpretrain
Command: python tools/train.py configs/imagenet/videomamba_s.py
Cost:    300 epochs of 1,281,167 images; not timed here
Paper:   no such row; VideoMamba's: 81.2 % top-1, 4.3 GFLOPs (projections and
         patches alone, no scan), 26 M parameters
Ours:    25,796,584 parameters, 5.076 GMACs; accuracy not trained here
Theirs:  8 x 512 images a step at lr 4e-3 (5e-4 x 4096 / 512), weight decay
         0.05, drop path 0.15, no EMA, bfloat16
"""

_base_ = './vim_s.py'

model = dict(backbone=dict(type='mmscope.VideoMamba', drop_path_rate=0.15))
