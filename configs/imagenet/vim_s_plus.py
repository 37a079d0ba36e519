"""ViM-S of stride 8 ("Vim-small+"), ImageNet-1K 224 x 224, fine-tuned.

Host:    mmpretrain
Weights: as in vim_ti_plus.py
Command: python tools/train.py configs/imagenet/vim_s_plus.py
Cost:    30 epochs of 1,281,167 images; not timed here
Paper:   no such row; ViM's: 81.6 % top-1, 95.4 % top-5
Ours:    26,001,256 parameters, 18.811 GMACs; accuracy not trained here
ViM's:   script has the values of vim_ti_plus.py
"""

_base_ = './vim_ti_plus.py'

model = dict(backbone=dict(arch='small'), head=dict(in_channels=384))
load_from = 'checkpoints/vim_s_plus_in1k.pth'
