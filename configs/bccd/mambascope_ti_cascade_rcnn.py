"""MambaScope-Ti + Cascade R-CNN, BCCD at 640 x 480, from scratch.

Host:    mmdetection
Data:    MMSCOPE_BCCD=FOLDER (default data/bccd)
Command: python tools/train.py configs/bccd/mambascope_ti_cascade_rcnn.py
Cost:    3,000 steps of 8 images, both stages; not timed here
Paper:   no such experiment
Ours:    not trained; the half model stands in docs/results/bccd.md
"""

# Schedule, data and seed are the ViM run's own.
_base_ = './vim_ti_cascade_rcnn.py'

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
