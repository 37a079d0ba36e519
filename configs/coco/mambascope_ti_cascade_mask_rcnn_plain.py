"""The twelve images again, in mmdet's own CascadeRCNN with the hook.

Host:    mmdetection
Data:    MMSCOPE_COCO=FOLDER; its first 12 training images
Command:
python tools/train.py configs/coco/mambascope_ti_cascade_mask_rcnn_plain.py
Cost:    400 steps of 2 images, both stages; see docs/results/coco_mini.md
Paper:   no such experiment
Ours:    see docs/results/coco_mini.md
"""

_base_ = './mambascope_ti_cascade_mask_rcnn_mini.py'

# The host knows nothing of two stages: ConfidenceGateHook adds the exit
# head's losses and the feature consistency.
model = dict(
    {k: v for k, v in _base_.model.items() if k != 'coarse_loss'},
    _delete_=True,
    type='CascadeRCNN',
)
