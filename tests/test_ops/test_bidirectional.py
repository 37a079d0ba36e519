from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mmscope.models.layers import MixerPlan
from mmscope.models.layers.mixer import BidirectionalMamba
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


def max_norm(y_f, y_b, z):
    return (F.softplus(y_f.amax(-1)) + F.softplus(y_b.amax(-1))) / 2


@pytest.mark.parametrize('score', ['max_norm', max_norm])
def test_op_is_the_mixer_between_its_projections(score):
    torch.manual_seed(0)
    mixer = BidirectionalMamba(embed_dims=8, num_layers=2)
    tokens = torch.randn(2, 9, 8)
    expected, expected_scores, _ = mixer(tokens, MixerPlan('max_norm'))
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
    options = dict(backend='reference', returns='scores')
    expected = run_inner(**inputs, score=max_norm, **options)
    scores = run_inner(**inputs, **options)
    torch.testing.assert_close(scores, expected.detach())
    assert expected.requires_grad
    assert not scores.requires_grad


def test_unknown_score_is_refused_with_the_known_one():
    with pytest.raises(ValueError, match="'max_norm'.*got 'l3_norm'"):
        run_inner(**inner_inputs(2), backend='reference', score='l3_norm')


def halves(inputs):
    """Both directions alone: outputs with the other one silent."""
    found = []
    for silent in ('b_', 'f_'):
        alone = {k: v.clone() for k, v in inputs.items()}
        for name in ('x_proj', 'D'):
            alone[silent + name].zero_()
        found.append(run_inner(**alone, backend='reference'))
    return found


@pytest.mark.parametrize(
    'chosen',
    [
        [[True, True], [True, False], [False, True], [False, False]],
        [[True, True]] * 4,
        [[False, False]] * 4,
    ],
)
def test_an_image_runs_the_directions_chosen_for_it(chosen):
    inputs = inner_inputs(6, batch=4)
    forward, backward = halves(inputs)
    directions = torch.tensor(chosen)
    actual = run_inner(**inputs, backend='reference', directions=directions)
    factors = directions.float()
    expected = factors[:, :1, None] * forward + factors[:, 1:, None] * backward
    assert_close('y', actual, expected, torch.float32)
    scaled = run_inner(**inputs, backend='reference', directions=factors)
    assert_close('scaled', scaled, expected, torch.float32)


def test_a_masked_tail_leaves_the_other_tokens_as_if_it_were_not_there():
    inputs = inner_inputs(9, batch=2)
    mask = torch.ones(2, 9, 1)
    mask[:, 6:] = 0
    masked = run_inner(**inputs, backend='reference', mask=mask)
    short = {k: v[:, :6] if k in ('x', 'z') else v for k, v in inputs.items()}
    expected = run_inner(**short, backend='reference')
    assert_close('y', masked[:, :6], expected, torch.float32)
