"""Run-time settings shared by every mmsegmentation config of mmscope."""

# Datasets, transforms, heads and visualizers resolve in the host; our own
# types carry the prefix `mmscope.` and resolve by themselves.
default_scope = 'mmseg'

env_cfg = dict(
    cudnn_benchmark=True,
    # fork starts loader workers fast; OpenCV's own threads would compete
    # with them.
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # tools/train.py and tools/test.py put gloo here where there is no GPU.
    dist_cfg=dict(backend='nccl'),
)

# For TensorBoard add dict(type='TensorboardVisBackend') to this list, for
# Weights & Biases dict(type='WandbVisBackend'), or on the command line:
# --cfg-options visualizer.vis_backends.0.type=TensorboardVisBackend
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(
    type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer'
)

log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0)

# Used by `tools/test.py --tta`, with `tta_pipeline` or, where a config has
# none, with each image and its mirror.
tta_model = dict(type='SegTTAModel')
