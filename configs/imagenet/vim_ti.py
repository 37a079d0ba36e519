"""ViM-Ti, ImageNet-1K 224 x 224 (Table 1, row ViM-T).

Host:    mmpretrain
Data:    MMSCOPE_IMAGENET=FOLDER (default data/imagenet), plain folders
Command: python tools/train.py configs/imagenet/vim_ti.py
Cost:    300 epochs of 1,281,167 images; not timed here
Paper:   76.1 % top-1, 1.5 GFLOPs, 7 M parameters
Ours:    7,148,008 parameters, 1.449 GMACs; accuracy not trained here
ViM's:   script has 8 x 128 images a step at lr 1e-3 (5e-4 x 1024 / 512) and
         weight decay 0.1; its EMA runs along, but scores are the weights' own
"""

_base_ = [
    '../_base_/models/vim_classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/classification_runtime.py',
]

model = dict(backbone=dict(drop_path_rate=0.0))
