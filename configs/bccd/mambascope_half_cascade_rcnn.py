"""MambaScope on half of ViM-Ti + Cascade R-CNN, BCCD at 320 x 240.

Host:    mmdetection
Data:    MMSCOPE_BCCD=FOLDER (default data/bccd)
Command: python tools/train.py configs/bccd/mambascope_half_cascade_rcnn.py
Cost:    from scratch, about an hour on one CPU core
Paper:   no such experiment
Ours:    see docs/results/bccd.md
"""

# Schedule, data and seed are the ViM run's own.
_base_ = './vim_half_cascade_rcnn.py'

model = dict(
    type='mmscope.EarlyExitCascadeRCNN',
    backbone=dict(
        type='mmscope.MambaScope',
        refine_ratio=0.8,
        exit_head=dict(
            type='mmscope.MultiLabelExitHead',
            num_classes={{_base_.num_classes}},
        ),
    ),
)
custom_hooks = [
    dict(type='mmscope.ConfidenceGateHook', exit_threshold=0.8),
    dict(type='mmscope.InformativeSelectionHook', begin=2 / 3),
    dict(type='mmscope.ClassCheckHook'),
]
