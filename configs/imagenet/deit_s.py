"""DeiT-S, ImageNet-1K 224 x 224, trained as ViM is here.

Host:    mmpretrain
Data:    MMSCOPE_IMAGENET=FOLDER (default data/imagenet), plain folders
Command: python tools/train.py configs/imagenet/deit_s.py
Cost:    300 epochs of 1,281,167 images; not timed here
Paper:   no such row; DeiT's own: 79.8 % top-1, mmpretrain's training 80.69 %
Ours:    22,050,664 parameters, 4.599 GMACs; accuracy not trained here
Weights: mmpretrain's deit-small loads as it is (load_from), DeiT's own
         through the converter with --source vit
"""

_base_ = './vim_s.py'

model = dict(backbone=dict(type='mmscope.TokenViT', drop_path_rate=0.1))
