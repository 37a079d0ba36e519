"""MambaScope on half of ViM-Ti (96 wide, 12 blocks), CamVid at 256 x 192.

Host:    mmsegmentation
Data:    MMSCOPE_CAMVID=FOLDER (default data/camvid)
Command: python tools/train.py configs/camvid/mambascope_half_upernet.py
Cost:    from scratch, about an hour on one CPU core
Paper:   no such experiment
Ours:    see docs/results/camvid.md
"""

# Schedule, data and seed are the ViM run's own.
_base_ = './vim_half_upernet.py'

model = dict(
    type='mmscope.EarlyExitEncoderDecoder',
    backbone=dict(
        type='mmscope.MambaScope',
        refine_ratio=0.8,
        exit_head=dict(type='mmscope.MultiLabelExitHead', num_classes=11),
    ),
)
custom_hooks = [
    dict(type='mmscope.ConfidenceGateHook', exit_threshold=0.8),
    dict(type='mmscope.InformativeSelectionHook', begin=2 / 3),
]
