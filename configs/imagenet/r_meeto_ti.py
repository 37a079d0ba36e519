"""R-MeeTo-Ti, ImageNet-1K 224 x 224, re-trained (Table 1, row R-MeeTo-T).

Host:    mmpretrain
Data:    MMSCOPE_IMAGENET=FOLDER (default data/imagenet), plain folders
Weights: tools/model_converters/vim_to_mmscope.py SRC DST (start and teacher)
Command: python tools/train.py configs/imagenet/r_meeto_ti.py
Cost:    30 epochs of 1,281,167 images; not timed here
Paper:   75.3 % top-1, 1.3 GFLOPs, 7 M parameters
Ours:    7,148,008 parameters, 1.251 GMACs (matching 0.016 more); not trained
Theirs:  4 x 128 images a step at lr 2e-5, 30 epochs, decay of everything,
         drop path 0.1 whatever the script says, float32, no EMA for T and S
"""

_base_ = './vim_ti.py'

max_epochs = 30
teacher_backbone = dict(type='mmscope.VisionMamba', arch='tiny', img_size=224)
teacher_head = dict(type='LinearClsHead', num_classes=1000, in_channels=192)
model = dict(
    type='mmscope.DistilledClassifier',
    teacher=dict(
        type='ImageClassifier', backbone=teacher_backbone, head=teacher_head
    ),
    teacher_checkpoint='checkpoints/vim_ti_in1k.pth',
    distill_weight=0.5,
    token_weight=0,
    ratio_weight=0,
    backbone=dict(
        drop_path_rate=0.1,
        reduction=dict(type='mmscope.RMeeTo', merge_tokens=5),
    ),
)
load_from = 'checkpoints/vim_ti_in1k.pth'
train_dataloader = dict(batch_size=512)
optimizer = dict(type='AdamW', lr=2e-5, weight_decay=0.05)
optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=optimizer)
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True)]
auto_scale_lr = dict(base_batch_size=512)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mmscope.ClassCheckHook')]
