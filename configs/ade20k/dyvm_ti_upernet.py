"""DyVM-Ti + UperNet, ADE20K 512 x 512 (Table 2, row Vim-Ti + DyVM).

Host:    mmsegmentation
Weights: python tools/model_converters/vim_to_mmscope.py SRC CHECKPOINT
Command: python tools/train.py configs/ade20k/dyvm_ti_upernet.py
Cost:    160,000 steps of 16 images; not timed here
Paper:   40.1 mIoU
Ours:    12.53 M parameters; mIoU not trained here
Theirs:  no cls token, 2 x 8 images a step, from ImageNet's ViM without DyVM
"""

_base_ = './vim_ti_upernet.py'

model = dict(
    backbone=dict(
        summary_position='none',
        feature_source='mixer',
        reduction=dict(
            type='mmscope.DyVM', token_keep_ratio=0.9, ratio_weight=20
        ),
    ),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
optim_wrapper = dict(
    constructor='mmscope.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.92),
    clip_grad=dict(max_norm=5),
)
custom_hooks = [dict(type='mmscope.TokenReductionHook')]
