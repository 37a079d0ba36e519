import pytest
import torch

from mmscope.models.losses import KL_DIRECTIONS, coarse_fine_kl

COARSE = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 0.5]])
FINE = torch.tensor([[1.0, 0.5, 0.0], [-1.0, 3.0, 0.0]])


def by_hand(first, second):
    first, second = first.softmax(-1), second.softmax(-1)
    return (first * (first / second).log()).sum(-1).mean()


def test_both_directions_are_the_definitions():
    pq = coarse_fine_kl(COARSE, FINE, 'pq')
    qp = coarse_fine_kl(COARSE, FINE, 'qp')
    assert pq.item() == pytest.approx(by_hand(FINE, COARSE).item(), rel=1e-5)
    assert qp.item() == pytest.approx(by_hand(COARSE, FINE).item(), rel=1e-5)
    assert pq.item() != pytest.approx(qp.item(), rel=0.05)


@pytest.mark.parametrize('direction', KL_DIRECTIONS)
def test_it_pulls_the_coarse_prediction_and_never_the_fine(direction):
    coarse = COARSE.clone().requires_grad_()
    fine = FINE.clone().requires_grad_()
    coarse_fine_kl(coarse, fine, direction).backward()
    assert fine.grad is None
    step = coarse.detach() - 0.1 * coarse.grad
    assert coarse_fine_kl(step, FINE, direction) < coarse_fine_kl(
        COARSE, FINE, direction
    )


def test_pq_teaches_a_confidently_wrong_pupil_and_qp_hardly():
    # The reason for the default; q - p against a term scaled by q.
    wrong = torch.tensor([[20.0, 0.0]])
    right = torch.tensor([[0.0, 2.0]])
    gradients = {}
    for direction in KL_DIRECTIONS:
        coarse = wrong.clone().requires_grad_()
        coarse_fine_kl(coarse, right, direction).backward()
        gradients[direction] = coarse.grad.abs().max().item()
    assert gradients['pq'] > 0.8
    assert gradients['qp'] < 1e-3


def test_half_precision_logits_are_compared_in_float32():
    loss = coarse_fine_kl(COARSE.bfloat16(), FINE.bfloat16())
    assert loss.dtype == torch.float32


def test_an_unknown_direction_is_named():
    with pytest.raises(ValueError, match="kl_direction must .* got 'both'"):
        coarse_fine_kl(COARSE, FINE, 'both')
