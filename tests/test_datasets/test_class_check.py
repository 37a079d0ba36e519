from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.runner import BaseLoop
from torch import nn

from mmscope.datasets import ClassCheckHook, DatasetLayoutError
from mmscope.datasets.class_check import (
    check_heads,
    check_num_classes,
    class_mismatch,
)

NAMES = ('ant', 'bee', 'cat')


class Loop(BaseLoop):
    def __init__(self, classes):
        dataset = SimpleNamespace(metainfo={'classes': classes})
        self.dataloader = SimpleNamespace(dataset=dataset)

    def run(self):
        raise NotImplementedError


def model_of(head, one_hot=None):
    return SimpleNamespace(
        head=SimpleNamespace(num_classes=head),
        data_preprocessor=SimpleNamespace(num_classes=one_hot),
    )


def runner_of(train=None, test=None, resume=False, head=3):
    """A runner as hooks see it; loops that were not built are dicts."""
    return SimpleNamespace(
        model=model_of(head),
        _train_loop={} if train is None else Loop(train),
        _val_loop=None,
        _test_loop={} if test is None else Loop(test),
        _resume=resume,
        logger=logging.getLogger('class_check'),
    )


def trained_on(classes):
    return {'meta': {'dataset_meta': {'classes': list(classes)}}}


@pytest.mark.parametrize(('head', 'one_hot'), [(1000, 1000), (3, 1000)])
def test_a_wrong_class_count_says_both_numbers_and_the_option(head, one_hot):
    dataset = SimpleNamespace(metainfo={'classes': NAMES}, img_prefix='d/val')
    with pytest.raises(DatasetLayoutError) as error:
        check_num_classes(model_of(head, one_hot), dataset)
    message = str(error.value)
    assert '3 classes (d/val)' in message
    assert f'for {head}' in message
    assert 'model.head.num_classes=3' in message
    assert 'model.data_preprocessor.num_classes=3' in message


@pytest.mark.parametrize('one_hot', [None, 3])
def test_equal_counts_and_models_without_head_pass(one_hot):
    dataset = SimpleNamespace(metainfo={'classes': NAMES})
    check_num_classes(model_of(3, one_hot), dataset)
    check_num_classes(SimpleNamespace(), dataset)
    check_num_classes(model_of(9), SimpleNamespace())


def test_the_hook_checks_the_data_of_every_loop_that_is_built():
    hook = ClassCheckHook()
    hook.before_run(runner_of(train=NAMES))
    with pytest.raises(DatasetLayoutError, match='has 2 classes'):
        hook.before_run(runner_of(test=NAMES[:2]))
    with pytest.raises(DatasetLayoutError, match='has 4 classes'):
        hook.before_run(runner_of(train=(*NAMES, 'dog')))


def test_wrapped_models_are_checked_too():
    runner = runner_of(test=NAMES, head=7)
    runner.model = SimpleNamespace(module=runner.model)
    with pytest.raises(DatasetLayoutError, match='for 7'):
        ClassCheckHook().before_run(runner)


@pytest.mark.parametrize(
    ('classes', 'message'),
    [
        (('bee', 'ant', 'cat'), "order: class 0 is 'ant' .* and 'bee' here"),
        (('ant', 'bee', 'cow'), "2 names in common: class 2 is 'cat'"),
        (('ant', 'bee'), "class 2 is 'cat' .* and nothing here"),
    ],
)
@pytest.mark.parametrize('how', ['test', 'resume'])
def test_other_classes_than_the_checkpoint_s_are_refused(
    classes, message, how
):
    runner = (
        runner_of(test=classes)
        if how == 'test'
        else runner_of(train=classes, resume=True)
    )
    with pytest.raises(DatasetLayoutError, match=message):
        ClassCheckHook().after_load_checkpoint(runner, trained_on(NAMES))


def test_fine_tuning_on_other_classes_warns(caplog):
    with caplog.at_level(logging.WARNING):
        ClassCheckHook().after_load_checkpoint(
            runner_of(train=('bee', 'ant')), trained_on(NAMES)
        )
    assert 'trained on 3 classes, the data has 2' in caplog.text


def test_names_of_another_vocabulary_warn(caplog):
    with caplog.at_level(logging.WARNING):
        ClassCheckHook().after_load_checkpoint(
            runner_of(test=('n01', 'n02', 'n03')), trained_on(NAMES)
        )
    assert 'nothing in common' in caplog.text


def test_equal_names_and_checkpoints_without_names_pass(caplog):
    hook = ClassCheckHook()
    hook.after_load_checkpoint(runner_of(test=NAMES), trained_on(NAMES))
    hook.after_load_checkpoint(runner_of(test=NAMES), {'state_dict': {}})
    assert class_mismatch(NAMES, NAMES) == ''
    assert not caplog.text


class Head(nn.Module):
    def __init__(self, num_classes, **attributes):
        super().__init__()
        self.num_classes = num_classes
        vars(self).update(attributes)


def detector_of(boxes=(3, 3), masks=3, exits=3):
    """A cascade as mmdet nests it; lists are lists, one mask head is not."""
    model = nn.Module()
    model.backbone, model.roi_head = nn.Module(), nn.Module()
    model.backbone.exit_head = Head(exits)
    model.rpn_head = Head(1)
    model.roi_head.bbox_head = nn.ModuleList(map(Head, boxes))
    model.roi_head.mask_head = nn.ModuleList([Head(masks)])
    return model


DETECTOR = {
    'backbone': {'exit_head': {'num_classes': 0}},
    'roi_head': {
        'bbox_head': [{'num_classes': 0}] * 2,
        'mask_head': {'num_classes': 0},
    },
}


def data_of(classes=NAMES, **attributes):
    return SimpleNamespace(metainfo={'classes': classes}, **attributes)


def test_every_head_of_a_detector_is_named_with_the_value_to_set():
    model = detector_of(boxes=(80, 3), masks=80, exits=80)
    with pytest.raises(DatasetLayoutError) as error:
        check_heads(model, data_of(ann_file='d/a.json'), DETECTOR)
    message = str(error.value)
    keys = [
        'model.roi_head.bbox_head.0.num_classes',
        'model.roi_head.mask_head.num_classes',
        'model.backbone.exit_head.num_classes',
    ]
    assert 'the data has 3 classes (d/a.json)' in message
    for key in keys:
        assert f'{key} is 80' in message
        assert f' {key}=3' in message
    assert 'bbox_head.1' not in message
    assert 'rpn_head' not in message
    # The options lead to a model that passes.
    cfg = Config({'model': DETECTOR})
    cfg.merge_from_dict(dict.fromkeys(keys, 3))
    assert cfg.model.roi_head.bbox_head[0].num_classes == 3
    assert cfg.model.roi_head.mask_head.num_classes == 3
    assert cfg.model.backbone.exit_head.num_classes == 3


def test_a_single_stage_detector_is_checked_and_equal_counts_pass():
    model = nn.Module()
    model.bbox_head = Head(3)
    check_heads(model, data_of())
    check_heads(detector_of(), data_of())
    check_heads(detector_of(), SimpleNamespace())
    model.bbox_head = Head(2)
    with pytest.raises(DatasetLayoutError, match='model.bbox_head.num_class'):
        check_heads(model, data_of())


def test_masks_of_no_class_may_count_anything():
    model = detector_of()
    model.roi_head.mask_head[0] = Head(80, class_agnostic=True)
    check_heads(model, data_of())


def test_the_hook_checks_detectors():
    runner = runner_of(test=NAMES)
    runner.model = detector_of(exits=80)
    with pytest.raises(DatasetLayoutError, match='exit_head.num_classes is'):
        ClassCheckHook().before_run(runner)
    runner.model = detector_of()
    ClassCheckHook().before_run(runner)
