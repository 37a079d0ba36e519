"""Run-time settings shared by every mmpretrain config of mmscope."""

_base_ = './default_runtime.py'

default_scope = 'mmpretrain'
visualizer = dict(_delete_=True, type='UniversalVisualizer')
visualizer['vis_backends'] = [dict(type='LocalVisBackend')]
log_processor = dict(_delete_=True, by_epoch=True)
tta_model = dict(_delete_=True, type='AverageClsScoreTTA')
