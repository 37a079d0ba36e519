"""DeiT-Ti, ImageNet-1K 224 x 224, trained as ViM is here.

Host:    mmpretrain
Data:    MMSCOPE_IMAGENET=FOLDER (default data/imagenet), plain folders
Command: python tools/train.py configs/imagenet/deit_ti.py
Cost:    300 epochs of 1,281,167 images; not timed here
Paper:   no such row; DeiT's own: 72.2 % top-1, mmpretrain's training 74.50 %
Ours:    5,717,416 parameters, 1.254 GMACs; accuracy not trained here
Weights: mmpretrain's deit-tiny loads as it is (load_from), DeiT's own through
         the converter with --source vit
"""

_base_ = './vim_ti.py'

model = dict(backbone=dict(type='mmscope.TokenViT', drop_path_rate=0.1))
