"""ViM-S + HA, ImageNet-1K 224 x 224, fine-tuned (Table 1, row ViM-S + HA).

Host:    mmpretrain
Weights: as in ha_ti.py
Command: python tools/train.py configs/imagenet/ha_s.py
Cost:    30 epochs of 1,281,167 images; not timed here
Paper:   78.8 % top-1, 3.6 GFLOPs, 27 M parameters
Ours:    25,796,584 parameters, 3.565 GMACs; not trained here
Theirs:  values of ha_ti.py, 8 x 64 or 5 x 64 images a step
"""

_base_ = './ha_ti.py'

model = dict(
    backbone=dict(
        arch='small',
        reduction=dict(prune_layers=(5, 10, 15), keep_ratio=0.8),
    ),
    head=dict(in_channels=384),
)
load_from = 'checkpoints/vim_s_in1k.pth'
