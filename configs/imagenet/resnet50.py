"""ResNet-50, ImageNet-1K 224 x 224: a convolutional line of comparison.

Host:    mmpretrain
Data:    MMSCOPE_IMAGENET=FOLDER (default data/imagenet), plain folders
Command: python tools/train.py configs/imagenet/resnet50.py
Cost:    100 epochs of 1,281,167 images; not timed here
Paper:   no such row; mmpretrain publishes 76.55 % top-1 for this recipe
Ours:    25,557,032 parameters, 4.089 GMACs; accuracy not trained here,
         tested with this repository's bicubic resizing, where it has bilinear
"""

_base_ = [
    '../_base_/models/resnet50_classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_100e_sgd.py',
    '../_base_/classification_runtime.py',
]

train_pipeline = [
    dict(type='mmscope.LoadImage'),
    dict(type='RandomResizedCrop', scale=224),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
