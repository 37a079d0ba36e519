"""A host model is told by what it inherits, not by what it has."""

from __future__ import annotations

import pytest
from builders import classification, detection, segmentation
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from mmscope.models.tasks import TASKS, inherits, task_of

MAKERS = {
    'mmpretrain': classification.classifier,
    'mmseg': segmentation.segmentor,
    'mmdet': detection.cascade,
}


@pytest.mark.parametrize('task', TASKS, ids=lambda task: task.name)
def test_each_host_model_has_its_task(task):
    pytest.importorskip(f'{task.host}.models')
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope(task.host):
        cfg = Config({'model': MAKERS[task.host]()})
        model = MODELS.build(cfg.model)
    assert task_of(model) == task
    assert task_of(nn.Sequential()) is None
    wrapped = nn.Module()
    wrapped.module = model
    assert task_of(wrapped) == task
    sample = task.new_sample(metainfo={'img_shape': (3, 4)})
    assert sample.img_shape == (3, 4)


def test_attributes_alone_make_no_segmentor():
    stranger = nn.Module()
    stranger.decode_head = nn.Identity()
    assert task_of(stranger) is None
    assert not inherits(stranger, 'no.such.Package')
