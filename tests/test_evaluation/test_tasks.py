"""The score of a task asks what is no class, and does not assume it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from builders import classification
from mmengine.config import Config

from mmscope.evaluation.tasks import check_metrics, default_score
from mmscope.registry import MODELS

MULTI = 'MultiLabelLinearClsHead'
CLASSES = ('sky', 'road', 'tree', 'car')


def loader(**dataset):
    dataset = SimpleNamespace(metainfo={'classes': CLASSES}, **dataset)
    return SimpleNamespace(dataset=dataset)


@pytest.fixture
def model(build_segmentor):
    return build_segmentor()


WRAPPED = {
    'alone': {'ignore_index': 7},
    'repeated': {'dataset': SimpleNamespace(ignore_index=7)},
    'joined': {'datasets': [SimpleNamespace(ignore_index=7)] * 2},
    'silent': {},
}


@pytest.mark.parametrize('kind', WRAPPED)
def test_the_label_that_is_no_class_is_that_of_head_and_data(kind, model):
    model.decode_head.ignore_index = 7
    score = default_score(model, loader(**WRAPPED[kind]))
    assert (score.num_classes, score.ignore_index) == (4, 7)


@pytest.mark.parametrize('kind', ['alone', 'repeated', 'joined'])
def test_a_head_that_ignores_another_label_than_its_data_is_named(kind, model):
    message = r'255 \(decode_head of EncoderDecoder\), 7 \(Simple.*ignore_ind'
    with pytest.raises(ValueError, match=message):
        default_score(model, loader(**WRAPPED[kind]))


def test_a_metric_that_ignores_another_label_is_named(model):
    metric = {'type': 'IoUMetric', 'iou_metrics': ['mIoU']}
    check_metrics(Config({'test_evaluator': metric}), model)
    # What is not installed will tell when it is asked to evaluate.
    check_metrics(Config({'val_evaluator': [{'type': 'NoSuch'}]}), model)
    metric['ignore_index'] = 0
    for split, found in (('val', metric), ('test', [metric])):
        cfg = Config({f'{split}_evaluator': found})
        message = rf'255 \(decode_head\), 0 \({split}_evaluator \(IoUMetric'
        with pytest.raises(ValueError, match=message):
            check_metrics(cfg, model)
    model.decode_head.ignore_index = 0
    check_metrics(Config({'test_evaluator': metric}), model)


def test_accuracy_is_no_score_of_several_labels():
    pytest.importorskip('mmpretrain.models', reason='needs mmpretrain')
    for head, several in (('LinearClsHead', False), (MULTI, True)):
        config = classification.classifier('ImageClassifier', {'type': head})
        model = MODELS.build({**config, '_scope_': 'mmpretrain'})
        if not several:
            assert default_score(model, SimpleNamespace()).num_classes == 3
            continue
        with pytest.raises(ValueError, match=f'one class .* {MULTI} predicts'):
            default_score(model, SimpleNamespace())
