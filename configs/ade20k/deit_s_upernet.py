"""DeiT-S + UperNet, ADE20K 512 x 512 (Table 2, row DeiT-S).

Host:    mmsegmentation
Data:    MMSCOPE_ADE20K=FOLDER (default data/ade/ADEChallengeData2016)
Weights: mmpretrain's deit-small as it is, or the converter with --source vit
Command: python tools/train.py configs/ade20k/deit_s_upernet.py
Cost:    160,000 steps of 16 images; not timed here
Paper:   44.0 mIoU, 43 M parameters, which no width of ViM's heads gives
Ours:    41.70 M parameters; mIoU not trained here
"""

_base_ = './vim_s_upernet.py'

# From scratch instead: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/deit_s_in1k.pth'
model = dict(
    backbone=dict(
        type='mmscope.TokenViT',
        out_indices=(2, 5, 8, 11),
        init_cfg=dict(checkpoint=checkpoint),
    ),
)
