"""Run-time settings shared by every mmdet config of mmscope."""

_base_ = './default_runtime.py'

default_scope = 'mmdet'
visualizer = dict(_delete_=True, type='DetLocalVisualizer', name='visualizer')
visualizer['vis_backends'] = [dict(type='LocalVisBackend')]
# It merges boxes, not masks: tools/test.py refuses --tta where a model has
# a mask head.
tta_model = dict(
    _delete_=True,
    type='DetTTAModel',
    tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
)
