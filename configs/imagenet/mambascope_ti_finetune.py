"""MambaScope-Ti, fine-tuned on class folders of your own.

Host:    mmpretrain
Data:    MMSCOPE_IMAGENET=FOLDER with train/<class>/* and val/<class>/*
Weights: tools/model_converters/vim_to_mmscope.py SRC DST --target mambascope
Command: python tools/train.py configs/imagenet/mambascope_ti_finetune.py
         --cfg-options model.head.num_classes=5
         model.data_preprocessor.num_classes=5
Cost:    30 epochs of your images, both stages; not timed here
Paper:   no such experiment
Ours:    not trained here
"""

_base_ = './mambascope_ti.py'

# A head of another size starts anew. From scratch: load_from=None
load_from = 'checkpoints/mambascope_ti_in1k.pth'
max_epochs = 30

train_dataloader = dict(
    batch_size=64,
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=1e-4))
by_epoch = dict(by_epoch=True, convert_to_iter_based=True)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, **by_epoch),
    dict(type='CosineAnnealingLR', begin=1, end=max_epochs, **by_epoch),
]
auto_scale_lr = dict(base_batch_size=64)
train_cfg = dict(max_epochs=max_epochs)
# No EMA: its 25,000 steps are longer than such a training.
custom_hooks = [
    dict(type='mmscope.ClassCheckHook'),
    dict(type='mmscope.ConfidenceGateHook'),
    dict(type='mmscope.InformativeSelectionHook', begin=2 / 3),
]
