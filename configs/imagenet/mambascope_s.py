"""MambaScope-S, ImageNet-1K 224 x 224 (Table 1, rows MambaScope-S).

Host:    mmpretrain
Data:    MMSCOPE_IMAGENET=FOLDER (default data/imagenet), plain folders
Command: python tools/train.py configs/imagenet/mambascope_s.py
Cost:    300 epochs of 1,281,167 images, both stages; not timed here
Paper:   79.8 / 80.3 / 80.7 % top-1 at thresholds 0.5 / 0.55 / 0.65 for
         2.5 / 2.7 / 3.1 GFLOPs; 81.2 % for 4.3 (not given); 28 M parameters
Ours:    26,997,352 parameters; accuracy not trained here
"""

_base_ = [
    '../_base_/models/mambascope_classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    backbone=dict(arch='small', drop_path_rate=0.05),
    head=dict(in_channels=384),
)
