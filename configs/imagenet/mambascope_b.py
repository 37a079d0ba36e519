"""MambaScope-B, ImageNet-1K 224 x 224 (Table 1, row MambaScope-B).

Host:    mmpretrain
Data:    MMSCOPE_IMAGENET=FOLDER (default data/imagenet), plain folders
Command: python tools/train.py configs/imagenet/mambascope_b.py
Cost:    300 epochs of 1,281,167 images, both stages; not timed here
Paper:   82.8 % top-1 at threshold 0.7 for 11.8 GFLOPs, 102 M parameters
Ours:    102,359,272 parameters; accuracy not trained here
"""

_base_ = [
    '../_base_/models/mambascope_classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/classification_runtime.py',
]

# No ViM script of this size is released; 0.1 is its program's default.
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.1),
    head=dict(in_channels=768),
)
