"""MambaScope on the trained half of ViM-Ti, refining what halving loses.

Host:    mmdetection
Data:    MMSCOPE_BCCD=FOLDER (default data/bccd)
Command:
python tools/train.py configs/bccd/mambascope_half_cascade_rcnn_detail.py
Cost:    35 minutes on one CPU core
Paper:   no such experiment
Ours:    see docs/results/bccd_from_vim.md
"""

_base_ = './mambascope_half_cascade_rcnn_finetune.py'

model = dict(backbone=dict(score_metric='detail', token_order='woven'))
