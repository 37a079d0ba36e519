"""The part of the exit head that predicts which class each cell shows."""

import pytest
import torch

from mmscope.models import MultiLabelExitHead
from mmscope.models.heads.confidence import map_confidence

KEYS = ['fc.weight', 'fc.bias', 'num_updates']


def head(**options):
    return MultiLabelExitHead(
        **{'num_classes': 3, 'in_channels': 8, **options}
    )


def test_a_head_without_a_map_has_the_weights_that_it_always_had():
    assert sorted(head().state_dict()) == sorted(KEYS)
    assert not head().has_map


@pytest.mark.parametrize(
    ('options', 'classes', 'weight'),
    [
        ({'confidence': 'map'}, 3, 0.4),
        ({'map_loss_weight': 0.2}, 3, 0.2),
        ({'confidence': 'map', 'map_nothing': True}, 4, 0.4),
    ],
)
def test_a_map_predicts_every_cell(options, classes, weight):
    asked = head(**options)
    assert asked.map_logits(torch.randn(2, 6, 8)).shape == (2, 6, classes)
    assert asked.map_loss_weight == weight


def test_map_confidence_is_the_mean_largest_probability():
    cells = torch.tensor([[[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]]).log()
    actual = map_confidence(cells.bfloat16())
    assert actual.dtype == torch.float32
    assert map_confidence(cells).item() == pytest.approx(0.6)
    certain = torch.tensor([[[300.0, 0.0], [0.0, 300.0]]])
    assert map_confidence(certain).item() == 1.0


def test_map_loss_is_the_cross_entropy_of_the_labelled_cells():
    trained = head(map_loss_weight=0.5)
    tokens, targets = torch.randn(1, 3, 8), torch.zeros(1, 3, 3)
    targets[0, 0] = torch.tensor([0.5, 0.5, 0.0])
    targets[0, 1, 2] = 1.0
    targets[0, 2] = torch.nan
    loss = trained.map_loss(tokens, targets)['loss_exit_map']
    log_probs = trained.map_logits(tokens)[0].log_softmax(-1)
    first = -(log_probs[0, 0] + log_probs[0, 1]) / 2
    expected = 0.5 * (first - log_probs[1, 2]) / 2
    assert torch.allclose(loss, expected)
    nothing = torch.full_like(targets, torch.nan)
    assert trained.map_loss(tokens, nothing)['loss_exit_map'] == 0


def test_weights_of_a_head_without_a_map_do_not_train_the_map():
    old, new = head(), head(confidence='map')
    cls, targets = torch.randn(2, 8), torch.ones(2, 3)
    old.loss(cls, cls, targets)
    new.load_state_dict(old.state_dict(), strict=False)
    assert old.is_trained
    assert not new.is_trained
    new.map_loss(torch.randn(2, 4, 8), torch.full((2, 4, 3), 1 / 3))
    assert new.is_trained
    assert not head(confidence='map').is_trained


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'map_loss_weight': -1}, 'map_loss_weight must .* got -1'),
        ({'map_loss_weight': '0.4'}, "map_loss_weight must .* got '0.4'"),
        ({'num_classes': 1, 'confidence': 'map'}, 'num_classes must be >= 2'),
        ({'map_nothing': True}, 'map_nothing=True is a class of a map'),
        ({'num_classes': 2.5}, 'num_classes must be a whole .* got 2.5'),
        ({'num_classes': '5'}, "num_classes must be a whole .* got '5'"),
    ],
)
def test_bad_maps_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        head(**options)


def test_one_class_and_nothing_make_a_map():
    assert head(num_classes=1, confidence='map', map_nothing=True).has_map
