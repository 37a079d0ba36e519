"""MambaScope for 300 steps from the trained half of ViM-Ti + UperNet.

Host:    mmsegmentation
Data:    MMSCOPE_CAMVID=FOLDER (default data/camvid)
Command:
python tools/train.py configs/camvid/mambascope_half_upernet_finetune.py
Cost:    a quarter of an hour on one CPU core
Paper:   no such experiment
Ours:    see docs/results/camvid_from_vim.md
"""

_base_ = './vim_half_upernet_finetune.py'

model = dict(
    type='mmscope.EarlyExitEncoderDecoder',
    backbone=dict(
        type='mmscope.MambaScope',
        refine_ratio=0.8,
        # Trains a map too, so that a sweep compares it with the others.
        exit_head=dict(
            type='mmscope.MultiLabelExitHead',
            num_classes=11,
            map_loss_weight=0.4,
        ),
    ),
)
# Selection is on from the first step: the weights are trained.
custom_hooks = [
    dict(type='mmscope.ConfidenceGateHook', exit_threshold=0.8),
]
