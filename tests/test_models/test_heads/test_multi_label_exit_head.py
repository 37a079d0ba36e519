import pytest
import torch
import torch.nn.functional as F

from mmscope.models import MultiLabelExitHead

torch.manual_seed(0)
COARSE, FINE = torch.randn(3, 8), torch.randn(3, 8)
TARGETS = torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1]])


def test_losses_equal_the_weighted_formula():
    head = MultiLabelExitHead(4, 8, loss_weight=0.5, distill_weight=0.25)
    losses = head.loss(COARSE, FINE, TARGETS)
    bce = F.binary_cross_entropy_with_logits
    coarse, fine = head(COARSE), head(FINE)
    assert torch.allclose(losses['loss_exit_coarse'], bce(coarse, TARGETS) / 2)
    assert torch.allclose(losses['loss_exit_fine'], bce(fine, TARGETS) / 2)
    distill = bce(coarse, fine.sigmoid()) / 4
    assert torch.allclose(losses['loss_exit_distill'], distill)


def test_distillation_does_not_push_the_fine_stage():
    head = MultiLabelExitHead(4, 8)
    fine = FINE.clone().requires_grad_()
    coarse = COARSE.clone().requires_grad_()
    head.loss(coarse, fine, TARGETS)['loss_exit_distill'].backward()
    assert fine.grad is None
    assert coarse.grad.abs().sum() > 0


def test_images_without_labels_do_not_count():
    head = MultiLabelExitHead(4, 8)
    targets = TARGETS.clone()
    targets[1] = torch.nan
    kept = [0, 2]
    some = head.loss(COARSE, FINE, targets)
    rest = head.loss(COARSE[kept], FINE[kept], TARGETS[kept])
    for name, value in some.items():
        assert torch.allclose(value, rest[name])
    none = head.loss(COARSE, FINE, torch.full_like(TARGETS, torch.nan))
    assert [v.item() for v in none.values()] == [0.0, 0.0, 0.0]


def test_training_is_remembered_in_the_state_dict():
    head = MultiLabelExitHead(4, 8)
    assert not head.is_trained
    head.loss(COARSE, FINE, TARGETS)
    other = MultiLabelExitHead(4, 8)
    other.load_state_dict(head.state_dict())
    assert other.is_trained


@pytest.mark.parametrize(
    'options', [{'num_classes': 0}, {'confidence': 'mean'}]
)
def test_bad_arguments_are_named(options):
    with pytest.raises(ValueError, match='must be'):
        MultiLabelExitHead(**{'num_classes': 3, 'in_channels': 8, **options})
