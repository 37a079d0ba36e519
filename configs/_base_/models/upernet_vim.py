"""UperNet on the dense ViM-tiny backbone (12.31 M parameters, 150 classes).

Widths follow ViM's own segmentation heads: the UPerHead is as wide as the
backbone, the auxiliary head has 256 channels and reads the third map.
"""

# tools/train.py and tools/test.py make this BN where there is one process.
norm_cfg = dict(type='SyncBN', requires_grad=True)
num_classes = 150
embed_dims = 192

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(512, 512),
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='mmscope.VisionMamba',
        arch='tiny',
        img_size=512,
        # ViM's segmentation sets none, and its constructor's default is this
        # (on ImageNet it trains with 0 for Ti and 0.05 for S).
        drop_path_rate=0.1,
        out_type='featmap',
        out_indices=(5, 11, 17, 23),
    ),
    neck=dict(
        type='Feature2Pyramid',
        embed_dim=embed_dims,
        rescales=[4, 2, 1, 0.5],
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        type='UPerHead',
        in_channels=[embed_dims] * 4,
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=embed_dims,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(
            type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0
        ),
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=embed_dims,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(
            type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4
        ),
    ),
    train_cfg=dict(),
    # ViM's own test is dict(mode='slide', crop_size=(512, 512),
    # stride=(341, 341)).
    test_cfg=dict(mode='whole'),
)
