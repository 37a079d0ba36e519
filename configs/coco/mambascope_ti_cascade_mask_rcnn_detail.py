"""MambaScope-Ti + Cascade Mask R-CNN, refining what halving loses, woven.

Host:    mmdetection
Weights: of imagenet/mambascope_ti_detail.py, or as in
         mambascope_ti_cascade_mask_rcnn.py
Command:
python tools/train.py configs/coco/mambascope_ti_cascade_mask_rcnn_detail.py
Cost:    380,000 steps of 64 images, both stages; not timed here
Paper:   no such row
Ours:    60.59 M parameters; AP not trained here
"""

_base_ = './mambascope_ti_cascade_mask_rcnn.py'

# Half of the regions: --cfg-options model.backbone.refine_ratio=0.5
model = dict(backbone=dict(score_metric='detail', token_order='woven'))
