"""Rows of results have the columns that are announced, whatever predicts."""

from __future__ import annotations

import pytest
import torch
from builders import classification

from mmscope.inference.rows import COMMON, HOST_ROWS, columns_of, row_kind
from mmscope.registry import MODELS
from mmscope.visualization.contents import predicted_content, true_content
from mmscope.visualization.figure_layout import FigureContent
from mmscope.visualization.views import View

pytest.importorskip('mmpretrain', reason='needs mmpretrain')
from mmpretrain.structures import DataSample

CLASSES = ('ant', 'bee', 'cat')
MULTI = {'type': 'MultiLabelLinearClsHead', 'thr': 0.5}


def classifier(head):
    config = classification.classifier('ImageClassifier', head)
    return MODELS.build({**config, '_scope_': 'mmpretrain'}).eval()


@torch.no_grad()
def predicted(model, logits):
    """A sample of a model whose head gives these logits."""
    torch.nn.init.zeros_(model.head.fc.weight)
    model.head.fc.bias.copy_(torch.tensor(logits))
    sample = DataSample().set_gt_label([0, 2])
    (found,) = model(torch.zeros(1, 3, 64, 64), [sample], mode='predict')
    return found


def row(model, sample):
    kind = row_kind('mmpretrain', model)
    columns, fill = HOST_ROWS[kind]
    found = fill(sample, CLASSES)
    assert list(found) == list(columns)
    assert columns_of(kind) == {**COMMON, **columns}
    return found


def test_a_classifier_s_row_has_the_class_that_it_predicts():
    model = classifier({'type': 'LinearClsHead'})
    found = row(model, predicted(model, [0.0, 2.0, 0.0]))
    assert (found['label'], found['class']) == (1, 'bee')
    assert found['score'] == pytest.approx(0.787, abs=1e-3)


@pytest.mark.parametrize(
    ('logits', 'labels'),
    [([3.0, -3.0, 3.0], [0, 2]), ([-3.0, 3.0, -3.0], [1]), ([-3.0] * 3, [])],
)
def test_a_multi_label_row_has_all_classes_that_are_present(logits, labels):
    model = classifier(MULTI)
    found = row(model, predicted(model, logits))
    assert found['labels'] == labels
    assert found['classes'] == [CLASSES[label] for label in labels]
    assert found['scores'] == pytest.approx([0.9526] * len(labels), abs=1e-4)


@pytest.mark.parametrize(
    ('logits', 'note'),
    [
        ([3.0, -3.0, 3.0], ['ant 0.95', 'cat 0.95']),
        ([-3.0, 3.0, -3.0], ['bee 0.95', 'true: ant', 'true: cat']),
        ([-3.0] * 3, ['true: ant', 'true: cat']),
    ],
)
def test_pictures_name_all_classes_of_an_image(logits, note):
    sample = predicted(classifier(MULTI), logits)
    view = View(
        name='x',
        image=None,
        prediction=predicted_content(sample),
        label=true_content(sample, {}),
        canvas=(64, 64),
    )
    shown = FigureContent.of([view], CLASSES, None, 0.3)
    assert shown.notes == [note]
