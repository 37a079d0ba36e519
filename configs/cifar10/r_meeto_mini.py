"""R-MeeTo on the small ViM, re-trained for one epoch.

Host:    mmpretrain
Data:    as in vim_mini.py
Command: python tools/train.py configs/cifar10/r_meeto_mini.py
Cost:    ten minutes on one CPU core
Paper:   no such experiment
Ours:    see docs/results/token_reduction.md
"""

_base_ = './vim_mini_finetune_1e.py'

teacher_backbone = dict(
    type='mmscope.VisionMamba',
    arch=dict(embed_dims=64, num_layers=8),
    img_size=32,
    patch_size=4,
)
teacher = dict(
    type='ImageClassifier',
    backbone=teacher_backbone,
    head=dict(type='LinearClsHead', num_classes=10, in_channels=64),
)
model = dict(
    type='mmscope.DistilledClassifier',
    teacher=teacher,
    teacher_checkpoint='work_dirs/vim_mini/epoch_8.pth',
    distill_weight=0.5,
    token_weight=0,
    # 64 patches, 56 from block 2 on, then 48 and 40.
    backbone=dict(reduction=dict(type='mmscope.RMeeTo', merge_tokens=8)),
)
