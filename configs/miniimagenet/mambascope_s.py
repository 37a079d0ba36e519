"""MambaScope-S, miniImageNet 224 x 224, the base of Tables 4, 6, 7, Fig. 5.

Host:    mmpretrain
Data:    100 classes; configs/_base_/datasets/miniimagenet.py says how
Command: python tools/train.py configs/miniimagenet/mambascope_s.py
Cost:    300 epochs of the images of 100 classes, both stages; not timed here
Paper:   this one model has 87.6 % top-1 in Table 6 and Fig. 5, 88.0 in
         Table 4, 87.0 in Table 7; its schedule is not told
Ours:    26,650,852 parameters, ImageNet's schedule; accuracy not trained here
"""

_base_ = [
    '../_base_/models/mambascope_classifier.py',
    '../_base_/datasets/miniimagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/classification_runtime.py',
]

num_classes = 100
model = dict(
    data_preprocessor=dict(num_classes=num_classes),
    backbone=dict(arch='small', drop_path_rate=0.05),
    head=dict(in_channels=384, num_classes=num_classes),
)
