"""ViM-Ti + UperNet, CamVid 11 classes, 480 x 360 (not in the paper).

Host:    mmsegmentation
Data:    MMSCOPE_CAMVID=FOLDER (default data/camvid)
Weights: python tools/model_converters/vim_to_mmscope.py SRC CHECKPOINT
Command: python tools/train.py configs/camvid/vim_ti_upernet.py
Cost:    20,000 steps of 16 images; not timed here
Paper:   no such experiment
Ours:    not trained; the half model stands in docs/results/camvid.md
"""

_base_ = [
    '../_base_/models/upernet_vim.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]

# From scratch instead: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/vim_ti_in1k.pth'
model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(
        img_size={{_base_.crop_size}},
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.'
        ),
    ),
    decode_head=dict(num_classes=11),
    auxiliary_head=dict(num_classes=11),
)
