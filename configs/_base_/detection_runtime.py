"""Run-time settings shared by every mmdet config of mmscope."""

_base_ = './default_runtime.py'

default_scope = 'mmdet'
visualizer = dict(_delete_=True, type='DetLocalVisualizer', name='visualizer')
visualizer['vis_backends'] = [dict(type='LocalVisBackend')]
# mmdet's test-time augmentation merges boxes, not masks: none here.
tta_model = None
