"""MambaScope-tiny classifier, 1000 classes (7,453,480 parameters).

The two stages share every weight of ViM, the head included; new are the
coarse position embedding and the reuse MLP.
"""

_base_ = './vim_classifier.py'

model = dict(
    type='mmscope.CoarseToFineClassifier',
    backbone=dict(
        type='mmscope.MambaScope',
        refine_ratio=0.8,
        score_momentum=0.99,
    ),
    head=dict(type='mmscope.CoarseToFineClsHead'),
)
custom_hooks = [
    dict(type='mmscope.ClassCheckHook'),
    {{_base_.ema}},
    # Nobody exits until a threshold is given: --exit-threshold 0.65 on the
    # command line, or model.exit_threshold=0.65 in the config.
    dict(type='mmscope.ConfidenceGateHook'),
    # 200 epochs refine everything, the last 100 informative regions only.
    dict(type='mmscope.InformativeSelectionHook', begin=200, by_epoch=True),
]
