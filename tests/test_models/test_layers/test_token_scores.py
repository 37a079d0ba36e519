import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmscope.models.layers import ranking
from mmscope.models.layers.token_scores import (
    SCORE_METRICS,
    accumulate_scores,
    direction_scores,
    token_scores,
)

# Two channels of one token: 3 and -4.
Y = torch.tensor([[[3.0, -4.0]]])


def softplus(x):
    return math.log1p(math.exp(x))


# 'random' has no value of its own.
VALUES = {
    'max_norm': softplus(3),  # Eq. 11
    'l2_norm': 5.0,
    'none': -0.5,
    'clip': 1.5,
    'softplus': (softplus(3) + softplus(-4)) / 2,
    'topk': (softplus(3) + softplus(-4)) / 2,
    'reversed': -softplus(3),
}


@pytest.mark.parametrize('metric', sorted({*SCORE_METRICS} - {'random'}))
def test_a_score_is_its_formula(metric):
    found = token_scores(Y, metric).item()
    assert found == pytest.approx(VALUES[metric], rel=1e-6)


def test_topk_looks_at_the_eight_largest_channels():
    y = torch.arange(20.0).view(1, 1, 20)
    largest = [softplus(x) for x in range(12, 20)]
    found = token_scores(y, 'topk').item()
    assert found == pytest.approx(sum(largest) / 8, rel=1e-6)


@pytest.mark.parametrize('metric', SCORE_METRICS)
def test_scores_of_half_precision_are_computed_in_float32(metric):
    assert token_scores(Y.bfloat16(), metric).dtype == torch.float32


def test_a_token_is_scored_by_the_mean_of_both_directions():
    found = direction_scores('clip', Y, 2 * Y, torch.zeros_like(Y))
    assert found.item() == pytest.approx((1.5 + 3.0) / 2)


def test_the_running_mean_starts_from_zero():
    first = accumulate_scores(None, torch.tensor([[1.0, 2.0]]), 0.9)
    second = accumulate_scores(first, torch.tensor([[3.0, 0.0]]), 0.9)
    torch.testing.assert_close(second, torch.tensor([[0.39, 0.18]]))


def test_an_unknown_score_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match="'max_norm'.* got 'max'"):
        token_scores(Y, 'max')


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=20))
def test_ranking_is_descending_with_ties_by_index(scores):
    order = ranking(torch.tensor([scores]))[0].tolist()
    assert order == sorted(range(len(scores)), key=lambda i: (-scores[i], i))
