"""MambaScope-Ti, ImageNet-1K 224 x 224 (Table 1, row MambaScope-T).

Host:    mmpretrain
Data:    MMSCOPE_IMAGENET=FOLDER (default data/imagenet), plain folders
Command: python tools/train.py configs/imagenet/mambascope_ti.py
Cost:    300 epochs of 1,281,167 images, both stages; not timed here
Paper:   76.4 % top-1, 1.4 GFLOPs (threshold not given), 8 M parameters
Ours:    7,453,480 parameters; accuracy not trained here
"""

_base_ = [
    '../_base_/models/mambascope_classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/classification_runtime.py',
]

model = dict(backbone=dict(drop_path_rate=0.0))
