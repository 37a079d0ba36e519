from __future__ import annotations

import pytest
from mmengine.fileio import load
from PIL import Image

from .conftest import load_tool
from .tiny import scores

pytest.importorskip('mmpretrain', reason='needs mmpretrain')

CONFIG = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        num_classes=2,
        mean=[127.5] * 3,
        std=[127.5] * 3,
        to_rgb=True,
    ),
    backbone=dict(
        type='mmscope.VisionMamba',
        arch=dict(embed_dims=16, num_layers=2),
        img_size=32,
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=2,
        in_channels=16,
        loss=dict(type='CrossEntropyLoss'),
    ),
)
dataset = dict(
    type='CustomDataset',
    data_root={root!r},
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=32),
        dict(type='PackInputs'),
    ],
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
)
test_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
test_evaluator = dict(type='Accuracy', topk=(1,))
test_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
"""


@pytest.fixture
def config(tmp_path):
    for label, colour in enumerate(('red', 'blue')):
        folder = tmp_path / 'images' / str(label)
        folder.mkdir(parents=True)
        for index in range(3):
            Image.new('RGB', (40, 32), colour).save(folder / f'{index}.png')
    path = tmp_path / 'config.py'
    path.write_text(CONFIG.format(root=str(tmp_path / 'images')))
    return path


def test_a_classifier_trains_and_tests_with_the_same_tools(config, tmp_path):
    work = tmp_path / 'work'
    load_tool('train.py').main([str(config), '--work-dir', str(work)])
    checkpoint = work / 'epoch_2.pth'
    out = tmp_path / 'predictions.pkl'
    load_tool('test.py').main(
        [
            str(config),
            str(checkpoint),
            '--work-dir',
            str(tmp_path / 'test'),
            '--out',
            str(out),
        ]
    )
    found = load(out)
    assert len(found) == 6
    right = [int(one['pred_label'] == one['gt_label']) for one in found]
    accuracy = scores(tmp_path / 'test')['accuracy/top1']
    assert accuracy == pytest.approx(100 * sum(right) / 6)


def test_a_folder_is_no_output_of_a_classifier(config, tmp_path):
    work = tmp_path / 'work'
    load_tool('train.py').main(
        [
            str(config),
            '--work-dir',
            str(work),
            '--cfg-options',
            'train_cfg.max_epochs=1',
        ]
    )
    with pytest.raises(SystemExit, match=r'expected a \.pkl file'):
        load_tool('test.py').main(
            [str(config), str(work / 'epoch_1.pth'), '--out', 'folder']
        )
