"""ViM-S + HA without its alignment, ImageNet-1K 224 x 224: the control.

Host:    mmpretrain
Weights: as in ha_ti.py
Command: python tools/train.py configs/imagenet/ha_s_no_alignment.py
Cost:    30 epochs of 1,281,167 images; not timed here
Paper:   no such row; ToP-ViM's: 75.4 % top-1 without, 78.8 % with alignment
Ours:    25,796,584 parameters, 3.565 GMACs; not trained here
Theirs:  released code is this one, and its log has 77.4 % before and 79.1 %
         after fine-tuning (blocks 5 and 15, keep ratio 0.8)
"""

_base_ = './ha_s.py'

model = dict(backbone=dict(reduction=dict(alignment='none')))
