"""ResNet-50 with an early exit, fine-tuned on ImageNet-1K 224 x 224.

Host:    mmpretrain
Data:    MMSCOPE_IMAGENET=FOLDER (default data/imagenet), plain folders
Weights: of a plain ResNet-50 classifier, such as mmpretrain's
Command: python tools/train.py configs/imagenet/exit_only_resnet50.py
Cost:    30 epochs of 1,281,167 images, both passes; not timed here
Paper:   no such experiment
Ours:    25,557,032 parameters; coarse 1.078, full 4.089 GMACs; accuracy not
         trained here
"""

_base_ = './resnet50.py'

# Its names fit, plain or wrapped. From scratch: load_from=None
load_from = 'checkpoints/resnet50_in1k.pth'
max_epochs = 30
model = dict(
    type='mmscope.CoarseToFineClassifier',
    backbone=dict(
        _delete_=True,
        type='mmscope.ExitOnly',
        backbone={{_base_.model.backbone}},
    ),
    # The wrapper averages the last map itself.
    neck=None,
    head=dict(type='mmscope.CoarseToFineClsHead'),
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_epochs)]
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [
    dict(type='mmscope.ClassCheckHook'),
    # Nobody exits until a threshold is given: --exit-threshold 0.65
    dict(type='mmscope.ConfidenceGateHook'),
]
