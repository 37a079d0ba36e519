"""DeiT-Ti + UperNet, ADE20K 512 x 512 (Table 2, row DeiT-Ti).

Host:    mmsegmentation
Data:    MMSCOPE_ADE20K=FOLDER (default data/ade/ADEChallengeData2016)
Weights: mmpretrain's deit-tiny as it is, or the converter with --source vit
Command: python tools/train.py configs/ade20k/deit_ti_upernet.py
Cost:    160,000 steps of 16 images; not timed here
Paper:   39.2 mIoU, 11 M parameters
Ours:    10.88 M parameters; mIoU not trained here
"""

_base_ = './vim_ti_upernet.py'

# From scratch instead: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/deit_ti_in1k.pth'
model = dict(
    backbone=dict(
        type='mmscope.TokenViT',
        out_indices=(2, 5, 8, 11),
        init_cfg=dict(checkpoint=checkpoint),
    ),
)
