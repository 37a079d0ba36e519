"""ViM-B, ImageNet-1K 224 x 224 (Table 1, row ViM-B).

Host:    mmpretrain
Data:    MMSCOPE_IMAGENET=FOLDER (default data/imagenet), plain folders
Command: python tools/train.py configs/imagenet/vim_b.py
Cost:    300 epochs of 1,281,167 images; not timed here
Paper:   81.9 % top-1, 18.9 GFLOPs, 98 M parameters
Ours:    97,598,440 parameters, 18.867 GMACs; accuracy not trained here
ViM's:   released no script for this size; drop path 0.1 is the default of
         its training program
"""

_base_ = [
    '../_base_/models/vim_classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    backbone=dict(arch='base', drop_path_rate=0.1),
    head=dict(in_channels=768),
)
