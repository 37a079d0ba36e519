"""R-MeeTo-S, ImageNet-1K 224 x 224, re-trained (Table 1, row R-MeeTo-S).

Host:    mmpretrain
Weights: as in r_meeto_ti.py
Command: python tools/train.py configs/imagenet/r_meeto_s.py
Cost:    15 epochs of 1,281,167 images; not timed here
Paper:   79.9 % top-1, 3.6 GFLOPs, 26 M parameters
Ours:    25,796,584 parameters, 3.535 GMACs (matching 0.022 more); not trained
Theirs:  values of r_meeto_ti.py, 15 epochs; 3 in "minutes"
"""

_base_ = './r_meeto_ti.py'

max_epochs = 15
model = dict(
    teacher=dict(backbone=dict(arch='small'), head=dict(in_channels=384)),
    teacher_checkpoint='checkpoints/vim_s_in1k.pth',
    backbone=dict(arch='small', reduction=dict(merge_tokens=11)),
    head=dict(in_channels=384),
)
load_from = 'checkpoints/vim_s_in1k.pth'
train_cfg = dict(max_epochs=max_epochs)
