"""ViM-Ti + Cascade R-CNN, BCCD at 640 x 480, from scratch (not in the paper).

Host:    mmdetection
Data:    MMSCOPE_BCCD=FOLDER (default data/bccd)
Command: python tools/train.py configs/bccd/vim_ti_cascade_rcnn.py
Cost:    3,000 steps of 8 images; not timed here
Paper:   no such experiment
Ours:    not trained; the half model stands in docs/results/bccd.md
"""

_base_ = [
    '../_base_/models/cascade_vim.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/schedule_3k_scratch.py',
    '../_base_/detection_runtime.py',
]

num_classes = 3
channels = 192
model = dict(
    data_preprocessor=dict(pad_mask=False, pad_size_divisor=32),
    backbone=dict(img_size=(480, 640), drop_path_rate=0.0),
    neck=dict(out_channels=channels),
    rpn_head=dict(in_channels=channels, feat_channels=channels),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels),
        bbox_head=[
            dict(
                stage,
                in_channels=channels,
                conv_out_channels=channels,
                fc_out_channels=768,
                num_classes=num_classes,
            )
            for stage in _base_.model.roi_head.bbox_head
        ],
        # The data has no masks.
        mask_roi_extractor=None,
        mask_head=None,
    ),
)
