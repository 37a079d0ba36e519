"""MambaScope-Ti + UperNet with layer-wise learning rates (Table 2 variant).

Host:    mmsegmentation
Command: python tools/train.py configs/ade20k/mambascope_ti_upernet_ld.py
Cost:    160,000 steps of 16 images, both stages; not timed here
Paper:   silent about layer decay; 0.92 is what ViM's segmentation uses
Ours:    12.69 M parameters; mIoU not trained here
"""

_base_ = './mambascope_ti_upernet.py'

# Block i of 24 learns at 0.92 ** (distance to the heads) times the rate, so
# the pre-trained early blocks hardly move. The keys without weight decay of
# the schedule stay in force.
optim_wrapper = dict(
    constructor='mmscope.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.92),
)
