"""Cascade Mask R-CNN on MambaScope-tiny with early exit (60.59 M).

The two stages share every weight of ViM; new are the coarse position
embedding, the reuse MLP and the exit head. An image that does not exit costs
more than in ViM.
"""

_base_ = './cascade_vim.py'

model = dict(
    type='mmscope.EarlyExitCascadeRCNN',
    # Neck and heads train on the coarse maps, too. 'feature' is cheaper and
    # learned far less on BCCD (docs/results/bccd.md).
    coarse_loss='detection',
    backbone=dict(
        type='mmscope.MambaScope',
        refine_ratio=0.8,
        score_momentum=0.99,
        exit_head=dict(
            type='mmscope.MultiLabelExitHead',
            num_classes={{_base_.num_classes}},
        ),
    ),
)

custom_hooks = [
    # An image leaves after the coarse stage when its confidence reaches
    # this; 0 lets everyone leave, > 1 nobody. `--exit-threshold` overrides
    # it.
    dict(type='mmscope.ConfidenceGateHook', exit_threshold=0.8),
    # Two thirds of the run refine everything, then only informative regions
    # (ImageNet: epoch 200 of 300).
    dict(type='mmscope.InformativeSelectionHook', begin=2 / 3),
    dict(type='mmscope.ClassCheckHook'),
]
