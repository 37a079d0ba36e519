from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mmscope.models.layers.mixer import BidirectionalMamba
from mmscope.models.scoping import token_scores
from mmscope.ops import DirectionWeights, bidirectional_inner
from mmscope.testing import assert_close, doubled, run_with_grads

sys.path.insert(0, str(Path(__file__).parent))
from inner_inputs import inner_inputs, run_inner


def directions_of(mixer):
    parts = []
    for suffix, a_log in (('', mixer.A_log), ('_b', mixer.A_b_log)):
        conv1d = getattr(mixer, f'conv1d{suffix}')
        dt_proj = getattr(mixer, f'dt_proj{suffix}')
        weights = DirectionWeights(
            conv_weight=conv1d.weight.squeeze(1),
            conv_bias=conv1d.bias,
            x_proj=getattr(mixer, f'x_proj{suffix}').weight,
            dt_proj=dt_proj.weight,
            dt_bias=dt_proj.bias,
            A_log=a_log,
            D=getattr(mixer, f'D{suffix}'),
        )
        parts.append(weights)
    return parts


@pytest.mark.parametrize('score', ['max_norm', token_scores])
def test_op_is_the_mixer_between_its_projections(score):
    torch.manual_seed(0)
    mixer = BidirectionalMamba(embed_dims=8, num_layers=2)
    tokens = torch.randn(2, 9, 8)
    expected, expected_scores = mixer(tokens, token_scores)
    x, z = mixer.in_proj(tokens).chunk(2, -1)
    y, scores = bidirectional_inner(x, z, *directions_of(mixer), score)
    assert_close('y', mixer.out_proj(y), expected, torch.float32)
    assert_close('scores', scores, expected_scores, torch.float32)


@pytest.mark.parametrize('seqlen', [1, 3, 10])
def test_compiled_kernels_match_the_reference(seqlen):
    inputs = inner_inputs(seqlen, batch=2)
    expected = run_with_grads(run_inner, doubled(inputs), backend='reference')
    actual = run_with_grads(run_inner, inputs, backend='cpu')
    for name, value in expected.items():
        assert_close(name, actual[name], value, torch.float32)


def test_each_direction_sees_its_own_side_of_a_token():
    for silent, reached in (('b_', range(4, 9)), ('f_', range(5))):
        inputs = inner_inputs(9)
        # Without C and D a direction's output vanishes.
        for name in ('x_proj', 'D'):
            inputs[silent + name].zero_()
        before = run_inner(**inputs, backend='reference')
        inputs['x'][:, 4] += 1
        changed = run_inner(**inputs, backend='reference') != before
        tokens = changed.any(2)[0].nonzero().flatten().tolist()
        assert tokens == list(reached)


def test_score_is_the_papers_and_has_no_gradient():
    inputs = {k: v.requires_grad_() for k, v in inner_inputs(5).items()}
    seen = []

    def score(y):
        seen.append(y)
        return F.softplus(y).amax(-1)

    options = dict(backend='reference', returns='scores')
    expected = run_inner(**inputs, score=score, **options)
    scores = run_inner(**inputs, **options)
    torch.testing.assert_close(scores, expected.detach())
    assert len(seen) == 2
    assert not scores.requires_grad


def test_unknown_score_is_refused_with_the_known_one():
    with pytest.raises(ValueError, match="'max_norm'.*got 'l3_norm'"):
        run_inner(**inner_inputs(2), backend='reference', score='l3_norm')
