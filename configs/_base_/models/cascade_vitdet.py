"""Cascade Mask R-CNN on ViTDet's tiny transformer (58.65 M parameters).

mmpretrain's ``ViTSAM`` without what SAM adds: windows of 14 x 14, four blocks
that see everything, absolute positions. Pyramid and heads are ViM's.
"""

_base_ = './cascade_vim.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ViTSAM',
        arch=dict(
            embed_dims=192,
            num_layers=12,
            num_heads=3,
            feedforward_channels=768,
            global_attn_indexes=[2, 5, 8, 11],
        ),
        img_size=1024,
        window_size=14,
        use_rel_pos=False,
        drop_path_rate=0.1,
        out_channels=0,
    ),
)
