"""Scope on DeiT-S, ImageNet-1K 224 x 224: CF-ViT's idea in this frame.

Host:    mmpretrain
Data:    MMSCOPE_IMAGENET=FOLDER (default data/imagenet), plain folders
Command: python tools/train.py configs/imagenet/vit_scope_s.py
Cost:    300 epochs of 1,281,167 images, both stages; not timed here
Paper:   no such row; CF-ViT's is another training of another code
Ours:    23,251,432 parameters; accuracy not trained here
"""

_base_ = './mambascope_s.py'

# The attention of the cls token says what to refine; DeiT's drop path.
model = dict(backbone=dict(type='mmscope.ViTScope', drop_path_rate=0.1))
