from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from mmscope.ops.library import op
from mmscope.testing import assert_close, doubled, relative_rms, run_with_grads

sys.path.insert(0, str(Path(__file__).parents[1]))
from inner_inputs import inner_inputs, run_inner

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


def check(inputs, score=None):
    expected = run_with_grads(
        run_inner, doubled(inputs), backend='reference', score=score
    )
    moved = {k: v.to(DEVICE) for k, v in inputs.items()}
    actual = run_with_grads(run_inner, moved, backend='triton', score=score)
    for name, value in expected.items():
        assert_close(name, actual[name].cpu(), value, torch.float32)


@pytest.mark.parametrize(('seqlen', 'batch'), [(1, 1), (2, 2), (5, 1)])
def test_any_length_matches_the_composition(seqlen, batch):
    check(inner_inputs(seqlen, batch=batch))


def test_cut_sequences_match_the_composition(cut):
    # Spans of 4, 4 and 3 tokens: even and odd ones.
    check(inner_inputs(11, dim=3))


@pytest.mark.parametrize('seqlen', [1, 9])
def test_cut_sequences_have_the_same_scores(seqlen, cut):
    inputs = inner_inputs(seqlen, dim=3)
    # Negative outputs, which a masked channel's zero would exceed.
    for direction in ('f_', 'b_'):
        inputs[direction + 'conv_bias'] += 3
        inputs[direction + 'D'] -= 3
    with torch.no_grad():
        expected = run_inner(**inputs, backend='cpu', returns='scores')
        moved = {k: v.to(DEVICE) for k, v in inputs.items()}
        actual = run_inner(**moved, backend='triton', returns='scores')
    assert_close('scores', actual.cpu(), expected, torch.float32)


def test_scores_have_no_gradient_and_do_not_disturb_that_of_the_output():
    check(inner_inputs(3), score='max_norm')
    inputs = {k: v.to(DEVICE) for k, v in inner_inputs(3).items()}
    leaves = {k: v.requires_grad_() for k, v in inputs.items()}
    scores = run_inner(**leaves, backend='triton', returns='scores')
    assert not scores.requires_grad


def test_bfloat16_is_as_near_to_the_truth_as_the_composition():
    # The interpreter cuts bfloat16 off where a GPU rounds to nearest, so that
    # the errors of all tensors that are written add up in one direction.
    slack = 2**-7 if DEVICE == 'cuda' else 2e-2
    inputs = inner_inputs(4, dtype=torch.bfloat16)
    truth = run_with_grads(run_inner, doubled(inputs), backend='reference')
    composed = run_with_grads(run_inner, inputs, backend='reference')
    moved = {k: v.to(DEVICE) for k, v in inputs.items()}
    fused = run_with_grads(run_inner, moved, backend='triton')
    for name, value in truth.items():
        assert fused[name].dtype == composed[name].dtype
        error = relative_rms(fused[name].cpu(), value)
        allowed = 2 * relative_rms(composed[name], value) + slack
        assert error < allowed, (name, error, allowed)


def test_function_as_score_gets_the_ungated_outputs():
    inputs = {k: v.to(DEVICE) for k, v in inner_inputs(2).items()}
    seen = []

    def score(y_f, y_b, z):
        seen.extend((y_f, y_b))
        return (y_f.mean(-1) + y_b.mean(-1)) / 2

    with torch.no_grad():
        scores = run_inner(
            **inputs, backend='triton', score=score, returns='scores'
        )
    expected = (seen[0].mean(-1) + seen[1].mean(-1)) / 2
    torch.testing.assert_close(scores, expected)


def test_compiled_graph_gives_the_right_gradients(as_released):
    inputs = {k: v.to(DEVICE) for k, v in inner_inputs(1).items()}
    compiled = torch.compile(run_inner, fullgraph=True, backend='aot_eager')
    options = dict(backend='triton', score='max_norm')
    actual = run_with_grads(compiled, inputs, **options)
    expected = run_with_grads(run_inner, inputs, **options)
    for name, value in expected.items():
        assert_close(name, actual[name], value, torch.float32)


def test_op_passes_opcheck(as_released):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        x = torch.randn(*shape, generator=generator).to(DEVICE)
        return x.requires_grad_()

    leaves = [
        *(draw(2, 1, 2, 2), draw(2, 1, 2, 2), draw(2, 2, 2)),
        *(draw(2, 1, 2, 2), draw(2, 1, 2, 2), draw(2, 2)),
        *(draw(1, 2, 2), draw(2, 2)),
    ]
    torch.library.opcheck(
        op('bidirectional_scan_triton'), (*leaves, True, True, True)
    )


@pytest.mark.gpu
@pytest.mark.parametrize(
    ('batch', 'seqlen', 'dim'), [(8, 197, 768), (1, 2111, 384)]
)
def test_model_sizes_match_the_composition(batch, seqlen, dim, as_released):
    if DEVICE == 'cpu':
        pytest.skip('needs a CUDA device')
    sizes = dict(batch=batch, dim=dim, d_state=16, dt_rank=24)
    check(inner_inputs(seqlen, **sizes))
