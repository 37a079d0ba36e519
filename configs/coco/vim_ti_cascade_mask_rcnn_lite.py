"""ViM-Ti + lite Cascade Mask R-CNN, COCO (ViM's; no paper row).

Host:    mmdetection
Command:
python tools/train.py configs/coco/vim_ti_cascade_mask_rcnn_lite.py
Cost:    380,000 steps of 64 images; not timed here
Paper:   its 30 M parameters are nearest to this one, but not said to be
Ours:    37.32 M parameters; AP not trained here
"""

_base_ = './vim_ti_cascade_mask_rcnn.py'

channels = 192
model = dict(
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
            )
            for stage in _base_.model.roi_head.bbox_head
        ],
        mask_roi_extractor=dict(out_channels=channels),
        mask_head=dict(in_channels=channels, conv_out_channels=channels),
    ),
)
