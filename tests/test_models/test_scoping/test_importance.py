import math

import pytest
import torch

from mmscope.models.layers import (
    SCORE_METRICS,
    accumulate_scores,
    token_scores,
)


def softplus(x):
    return math.log1p(math.exp(x))


Y = [-1.0, 0.5, 2.0]


@pytest.mark.parametrize(
    ('metric', 'expected'),
    [
        ('max_norm', softplus(2.0)),
        ('l2_norm', math.sqrt(1 + 0.25 + 4)),
        ('none', 0.5),
        ('clip', 2.5 / 3),
        ('softplus', sum(map(softplus, Y)) / 3),
        ('topk', sum(map(softplus, Y)) / 3),
    ],
)
def test_scores_equal_the_formula(metric, expected):
    score = token_scores(torch.tensor([[Y]]), metric)
    assert score.shape == (1, 1)
    assert score.item() == pytest.approx(expected, rel=1e-6)


def test_topk_takes_the_eight_largest_channels():
    y = torch.arange(20.0).reshape(1, 1, 20)
    expected = torch.nn.functional.softplus(y[..., 12:]).mean()
    assert torch.isclose(token_scores(y, 'topk')[0, 0], expected)


@pytest.mark.parametrize('metric', SCORE_METRICS)
def test_scores_of_half_precision_are_float32(metric):
    y = torch.randn(2, 3, 16, dtype=torch.bfloat16)
    assert token_scores(y, metric).dtype == torch.float32


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="got 'max'"):
        token_scores(torch.zeros(1, 1, 1), 'max')


def test_momentum_zero_keeps_the_last_block_and_starts_from_zero():
    first, second = torch.tensor([[1.0]]), torch.tensor([[3.0]])
    assert accumulate_scores(first, second, 0.0).item() == 3.0
    assert accumulate_scores(None, first, 0.75).item() == 0.25
    mean = accumulate_scores(accumulate_scores(None, first, 0.5), second, 0.5)
    assert mean.item() == 0.5 * 0.5 * 1 + 0.5 * 3
