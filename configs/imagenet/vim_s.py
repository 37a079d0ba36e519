"""ViM-S, ImageNet-1K 224 x 224 (Table 1, row ViM-S).

Host:    mmpretrain
Data:    MMSCOPE_IMAGENET=FOLDER (default data/imagenet), plain folders
Command: python tools/train.py configs/imagenet/vim_s.py
Cost:    300 epochs of 1,281,167 images; not timed here
Paper:   80.3 % top-1, 5.1 GFLOPs, 26 M parameters
Ours:    25,796,584 parameters, 5.076 GMACs; accuracy not trained here
ViM's:   script has 8 x 64 images a step at lr 1e-3, weight decay 0.05 and
         drop path 0.05; its EMA runs along, but scores are the weights' own
"""

_base_ = [
    '../_base_/models/vim_classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    backbone=dict(arch='small', drop_path_rate=0.05),
    head=dict(in_channels=384),
)
