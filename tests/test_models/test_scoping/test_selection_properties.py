"""Selection over random grids, ratios and scores."""

import itertools
import math
from fractions import Fraction

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmscope.models.scoping.selection import (
    fine_children,
    num_refined,
    split_regions,
)

quickly = settings(max_examples=80, deadline=None)


def test_the_number_of_regions_is_the_exact_ceiling():
    for percent, regions in itertools.product(range(101), range(1, 200)):
        exact = math.ceil(Fraction(percent, 100) * regions)
        assert num_refined(percent / 100, regions) == exact


@quickly
@given(st.data())
def test_refined_and_kept_regions_share_out_all_of_them(data):
    n = data.draw(st.integers(1, 40))
    k = data.draw(st.integers(0, n))
    scores = data.draw(
        st.lists(st.integers(0, 4), min_size=n, max_size=n), label='scores'
    )
    refined, kept = split_regions(torch.tensor([scores]).float(), k)
    refined, kept = refined[0].tolist(), kept[0].tolist()
    assert sorted(refined + kept) == list(range(n))
    assert refined == sorted(refined)
    assert kept == sorted(kept)
    assert len(refined) == k
    # Nothing that stays coarse beats what is refined, ties by index.
    worst = max(((-scores[i], i) for i in refined), default=(-9, -1))
    best = min(((-scores[i], i) for i in kept), default=(9, 99))
    assert worst < best


@quickly
@given(st.integers(1, 6), st.integers(1, 6))
def test_children_of_all_regions_are_all_fine_tokens_once(h, w):
    children = fine_children(torch.arange(h * w)[None], w)
    assert sorted(children.flatten().tolist()) == list(range(4 * h * w))
    rows, columns = children[0] // (2 * w), children[0] % (2 * w)
    parents = rows // 2 * w + columns // 2
    assert torch.equal(parents, torch.arange(h * w)[:, None].expand(-1, 4))
