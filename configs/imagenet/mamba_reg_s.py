"""Mamba-Reg-S, ImageNet-1K 224 x 224.

Host:    mmpretrain
Data:    MMSCOPE_IMAGENET=FOLDER (default data/imagenet), plain folders
Command: python tools/train.py configs/imagenet/mamba_reg_s.py
Cost:    300 epochs of 1,281,167 images; not timed here
Paper:   no such row; Mamba-Reg's: 81.4 % top-1
Ours:    27,801,064 parameters, 5.359 GMACs; accuracy not trained here
Theirs:  300 epochs at 128 pixels (8 x 128 images a step at lr 5e-4), 100 at
         224 with drop path 0.4, 20 of fine-tuning; tested at crop ratio 1
"""

_base_ = './vim_s.py'

# 12 registers of 384 / 2 channels, side by side.
model = dict(
    backbone=dict(type='mmscope.MambaReg'), head=dict(in_channels=2304)
)
