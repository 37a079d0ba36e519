"""MambaScope for 270 steps from the trained half of ViM-Ti + Cascade R-CNN.

Host:    mmdetection
Data:    MMSCOPE_BCCD=FOLDER (default data/bccd)
Command:
python tools/train.py configs/bccd/mambascope_half_cascade_rcnn_finetune.py
Cost:    35 minutes on one CPU core
Paper:   no such experiment
Ours:    see docs/results/bccd_from_vim.md
"""

_base_ = './vim_half_cascade_rcnn_finetune.py'

model = dict(
    type='mmscope.EarlyExitCascadeRCNN',
    backbone=dict(
        type='mmscope.MambaScope',
        refine_ratio=0.8,
        # Trains a map too, so that a sweep compares it with the others.
        exit_head=dict(
            type='mmscope.MultiLabelExitHead',
            num_classes={{_base_.num_classes}},
            map_loss_weight=0.4,
            map_nothing=True,
        ),
    ),
)
# Selection is on from the first step: the weights are trained.
custom_hooks = [
    dict(type='mmscope.ConfidenceGateHook', exit_threshold=0.8),
    dict(type='mmscope.ClassCheckHook'),
]
