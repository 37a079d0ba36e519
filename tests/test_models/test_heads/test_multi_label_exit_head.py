import pytest
import torch
import torch.nn.functional as F
from mmengine.runner.checkpoint import load_state_dict

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


@pytest.mark.parametrize(
    'name', ['loss_weight', 'distill_weight', 'map_loss_weight']
)
@pytest.mark.parametrize('value', [-1, float('nan'), float('inf'), 'a', True])
def test_bad_weights_are_named(name, value):
    told = f'^{name} must be a finite number >= 0, got {value!r}'
    with pytest.raises(ValueError, match=told):
        MultiLabelExitHead(3, 8, **{name: value})


def trained_head(classes=4, **options):
    head = MultiLabelExitHead(classes, 8, **options)
    head.loss(COARSE, FINE, torch.eye(3, classes))
    if head.has_map:
        cells = torch.full((3, 5, head.map_classes), 1 / head.map_classes)
        head.map_loss(torch.randn(3, 5, 8), cells)
    return head


def test_a_head_into_which_no_weights_went_stays_untrained():
    state = trained_head(6).state_dict()
    head = MultiLabelExitHead(4, 8)
    with pytest.raises(RuntimeError, match='size mismatch'):
        head.load_state_dict(state, strict=False)
    assert not head.is_trained
    # As MMEngine loads: what does not fit is logged and left out.
    load_state_dict(head, dict(state))
    assert not head.is_trained
    for gone in ('fc.weight', 'fc.bias'):
        some = dict(trained_head().state_dict())
        del some[gone]
        head = MultiLabelExitHead(4, 8)
        load_state_dict(head, some)
        assert not head.is_trained
        # Half of another head is no head.
        head = trained_head()
        load_state_dict(head, some)
        assert not head.is_trained


def test_weights_that_do_not_fit_leave_a_trained_head_as_it_is():
    head = trained_head()
    load_state_dict(head, trained_head(6).state_dict())
    assert head.num_updates == 1
    load_state_dict(head, {})
    assert head.num_updates == 1


def test_a_map_is_trained_by_its_own_weights_alone():
    state = trained_head(6, map_loss_weight=0.4).state_dict()
    other = trained_head(4, map_loss_weight=0.4).state_dict()
    mixed = {k: (state if 'map' in k else other)[k] for k in state}
    head = MultiLabelExitHead(4, 8, map_loss_weight=0.4)
    load_state_dict(head, mixed)
    assert (head.num_updates, head.num_map_updates) == (1, 0)
    assert not head.is_trained


def test_it_is_said_when_a_marker_is_not_taken(said):
    head = MultiLabelExitHead(4, 8)
    load_state_dict(head, trained_head(6).state_dict())
    told = 'fc.weight is (6, 8) in the checkpoint, expected (4, 8)'
    assert told in said.text


@pytest.mark.parametrize('case', ['ignored', 'no_grad', 'frozen', 'weight'])
def test_what_cannot_train_the_head_does_not_count(case):
    weight = 0.0 if case == 'weight' else 0.4
    head = MultiLabelExitHead(4, 8, loss_weight=weight, map_loss_weight=weight)
    targets, cells = TARGETS.clone(), torch.full((3, 5, 4), 0.25)
    if case == 'ignored':
        targets[:], cells[:] = torch.nan, torch.nan
    if case == 'frozen':
        head.requires_grad_(False)
    with torch.set_grad_enabled(case != 'no_grad'):
        head.loss(COARSE, FINE, targets)
        head.map_loss(torch.randn(3, 5, 8), cells)
    assert (head.num_updates, head.num_map_updates) == (0, 0)


def test_one_labelled_image_trains():
    head = MultiLabelExitHead(4, 8)
    targets = TARGETS.clone()
    targets[1:] = torch.nan
    head.loss(COARSE, FINE, targets)
    assert head.num_updates == 1
    assert head.num_updates.dtype == torch.long
