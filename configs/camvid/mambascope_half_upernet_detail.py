"""MambaScope on the trained half of ViM-Ti, refining what halving loses.

Host:    mmsegmentation
Data:    MMSCOPE_CAMVID=FOLDER (default data/camvid)
Command: python tools/train.py configs/camvid/mambascope_half_upernet_detail.py
Cost:    a quarter of an hour on one CPU core
Paper:   no such experiment
Ours:    see docs/results/camvid_from_vim.md
"""

_base_ = './mambascope_half_upernet_finetune.py'

model = dict(backbone=dict(score_metric='detail', token_order='woven'))
