"""ViM-tiny classifier, 1000 classes, 224 x 224 (7,148,008 parameters).

Mixup, CutMix and label smoothing have the values of ViM's released training
script, which are its argparse defaults; so does the EMA.
"""

num_classes = 1000

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        num_classes=num_classes,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(type='mmscope.VisionMamba', arch='tiny', img_size=224),
    head=dict(
        type='LinearClsHead',
        num_classes=num_classes,
        in_channels=192,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    # One of the two per batch, each half of the time.
    train_cfg=dict(
        augments=[
            dict(type='Mixup', alpha=0.8),
            dict(type='CutMix', alpha=1.0),
        ],
    ),
)

# Decay 0.99996: MMEngine's momentum is what the new weights count. The
# average looks back 1 / 4e-5 = 25,000 steps, 5 epochs of ImageNet; a short
# training needs a larger momentum or none of this.
ema = dict(type='EMAHook', momentum=4e-5)
custom_hooks = [dict(type='mmscope.ClassCheckHook'), ema]
