"""A classifier that learns from a frozen teacher beside it."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from builders import classification
from mmengine.runner import save_checkpoint

from mmscope.models import observe
from mmscope.models.losses import kept_token_error
from mmscope.registry import MODELS

DYVM = {'type': 'mmscope.DyVM', 'prune_layers': (1, 3)}
LINEAR = {'type': 'LinearClsHead'}


def teacher(**options):
    options = {'type': 'mmscope.VisionMamba', **options}
    return classification.classifier('ImageClassifier', LINEAR, **options)


def config(path=None, reduction=DYVM, taught_by=None, **options):
    """A student of four blocks with a teacher of the same size."""
    model = classification.classifier(
        'mmscope.DistilledClassifier',
        LINEAR,
        type='mmscope.VisionMamba',
        reduction=reduction,
    )
    return {
        **model,
        'teacher': taught_by or teacher(),
        'teacher_checkpoint': None if path is None else str(path),
        '_scope_': 'mmpretrain',
        **options,
    }


def build(*args, **options):
    torch.manual_seed(0)
    return MODELS.build(config(*args, **options))


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A checkpoint of a teacher, and its path."""
    torch.manual_seed(7)
    model = MODELS.build({**teacher(), '_scope_': 'mmpretrain'})
    path = tmp_path_factory.mktemp('teacher') / 'vim.pth'
    save_checkpoint({'state_dict': model.state_dict()}, str(path))
    return path


@pytest.fixture
def data():
    from mmpretrain.structures import DataSample

    torch.manual_seed(1)
    samples = [DataSample().set_gt_label(i % 3) for i in range(4)]
    return torch.randn(4, 3, 64, 64), samples


def test_the_teacher_is_no_part_of_the_model(weights):
    model = build(weights)
    plain = build(weights, teacher=teacher())
    keys, params = set(model.state_dict()), list(model.parameters())
    assert model.teacher is not plain.teacher
    assert set(model.state_dict()) == keys
    assert not any('teacher' in key for key in keys)
    assert [id(p) for p in model.parameters()] == [id(p) for p in params]
    assert model.teacher not in set(model.modules())
    own = torch.load(weights, weights_only=False)['state_dict']
    for key, value in model.teacher.state_dict().items():
        assert torch.equal(value, own[key])
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_the_teacher_stays_in_evaluation_and_follows_the_model(weights):
    model = build(weights)
    assert not model.teacher.training
    model.train()
    assert not model.teacher.training
    model.double()
    assert model.teacher.head.fc.weight.dtype == torch.float64
    model.to('meta')
    assert model.teacher.head.fc.weight.is_meta


def test_copies_have_teachers_of_their_own(weights):
    model = build(weights)
    model.init_weights()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.teacher is not model.teacher
        for a, b in zip(
            other.teacher.parameters(),
            model.teacher.parameters(),
            strict=True,
        ):
            assert torch.equal(a, b)
        assert not other.teacher.training


def test_a_model_that_is_only_tested_loads_no_teacher(tmp_path, data):
    model = build(tmp_path / 'missing.pth').eval()
    with torch.no_grad():
        model(data[0], data[1], mode='predict')
    with pytest.raises(FileNotFoundError, match='missing.pth'):
        model.init_weights()


def test_weights_of_another_model_are_no_teacher(tmp_path):
    path = tmp_path / 'other.pth'
    save_checkpoint({'state_dict': {'head.fc.bias': torch.ones(3)}}, str(path))
    with pytest.raises((RuntimeError, ValueError)):
        _ = build(path).teacher


def test_losses_are_the_recipe_s(weights, data):
    model = build(weights, distill_weight=0.25, token_weight=2.0)
    model.train()
    torch.manual_seed(5)
    losses = model(*data, mode='loss')
    torch.manual_seed(5)
    with observe(model) as records:
        feats = model.extract_feat(data[0])
    (record,) = records
    with torch.no_grad():
        logits = model.teacher(data[0], mode='tensor')
        encoded = model.teacher.backbone.encode_images(data[0])
    tokens = encoded.sequence.to_raster(encoded.tokens)
    p = logits.softmax(-1)
    log_q = model.head(feats).log_softmax(-1)
    kl = (p * (p.log() - log_q)).sum(-1).mean()
    assert losses['loss_distill'].item() == pytest.approx(
        0.25 * kl.item(), rel=1e-4
    )
    error = kept_token_error(record, tokens).item()
    assert losses['loss_tokens'].item() == pytest.approx(2 * error, rel=1e-5)
    ratios = model.backbone.reduction.losses(record)
    for name, value in ratios.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-5)
    names = {'loss', 'loss_distill', 'loss_tokens', *ratios}
    assert set(losses) == names


def test_the_token_loss_compares_kept_patches_by_their_place(weights, data):
    model = build(weights).train()
    with observe(model) as records:
        model.extract_feat(data[0])
    (record,) = records
    wanted = torch.randn(4, 16, 16)
    found, errors = kept_token_error(record, wanted), []
    for b in range(4):
        for j in range(16):
            if record.token_policy[b, j] > 0:
                other = wanted[b, record.positions[b, j]]
                errors.append((record.tokens[b, j] - other).square().mean())
    assert found.item() == pytest.approx(
        torch.stack(errors).mean().item(), rel=1e-5
    )


def test_every_parameter_learns_and_the_teacher_does_not(weights, data):
    model = build(weights).train()
    total, _ = model.parse_losses(model(*data, mode='loss'))
    total.backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None]
    assert missing == []
    assert all(p.grad is None for p in model.teacher.parameters())


@pytest.mark.parametrize('kind', ['RMeeTo', 'HiddenAlign', None])
def test_other_reductions_learn_from_a_teacher(kind, weights, data):
    reduction = None if kind is None else {'type': f'mmscope.{kind}'}
    if kind == 'HiddenAlign':
        reduction['prune_layers'] = (1,)
    with pytest.raises(ValueError, match='set token_weight=0'):
        build(weights, reduction)
    model = build(weights, reduction, token_weight=0, ratio_weight=0).train()
    losses = model(*data, mode='loss')
    assert set(losses) == {'loss', 'loss_distill'}
    total, _ = model.parse_losses(losses)
    total.backward()


def test_one_place_decides_about_the_ratio_losses(weights):
    own = {**DYVM, 'ratio_weight': 3.0}
    assert build(weights).backbone.reduction.ratio_weight == 10.0
    assert build(weights, own).backbone.reduction.ratio_weight == 3.0
    other = build(weights, own, ratio_weight=7.0)
    assert other.backbone.reduction.ratio_weight == 7.0


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'distill_weight': -1}, 'distill_weight must be >= 0'),
        ({'token_weight': float('nan')}, 'token_weight must be >= 0'),
        ({'ratio_weight': -1}, 'ratio_weight must be >= 0'),
    ],
)
def test_bad_weights_are_refused(options, message, weights):
    with pytest.raises(ValueError, match=message):
        build(weights, **options)


@pytest.mark.parametrize(
    ('taught_by', 'message'),
    [
        ({'type': 'mmscope.MambaScope'}, 'has MambaScope'),
        ({'reduction': DYVM}, 'without reduction'),
        ({'patch_size': 8}, 'the teacher has patch_size 8'),
    ],
)
def test_teachers_whose_patches_do_not_fit_are_refused(
    taught_by, message, data
):
    model = build(taught_by=teacher(**taught_by)).train()
    with pytest.raises(ValueError, match=message):
        model.init_weights()


MULTI = {'type': 'MultiLabelLinearClsHead'}


def test_heads_that_predict_no_distribution_are_refused(data):
    head = {**teacher()['head'], **MULTI}
    with pytest.raises(ValueError, match='MultiLabelLinearClsHead of this mo'):
        build(head=head)
    other = {**teacher(), 'head': head}
    model = build(taught_by=other)
    with pytest.raises(ValueError, match='MultiLabelLinear.* of the teacher'):
        model.init_weights()
    # Tokens alone may be taught.
    losses = build(taught_by=other, distill_weight=0).train()(
        *data, mode='loss'
    )
    assert losses['loss_distill'] == 0


def test_where_no_stage_prunes_all_patches_are_compared(data):
    model = build(reduction={**DYVM, 'prune_layers': (9,)}).train()
    with observe(model) as records:
        model.extract_feat(data[0])
    _, wanted = model._teach(data[0])
    found = kept_token_error(records[0], wanted)
    tokens = records[0].tokens
    expected = (tokens - wanted).square().mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    total, _ = model.parse_losses(model(*data, mode='loss'))
    total.backward()


def test_it_trains_in_a_runner_without_a_hook(weights, tmp_path):
    root = classification.write_photos(tmp_path / 'data')
    model = config(weights)
    hooks = [
        {'type': 'EMAHook', 'momentum': 0.1},
        {'type': 'mmscope.TokenReductionHook'},
    ]
    runner = classification.runner(
        root,
        tmp_path / 'run',
        model,
        epochs=1,
        train_dataloader=classification.dataloader(root, True, batch_size=6),
        custom_hooks=hooks,
    )
    runner.train()
    saved = torch.load(tmp_path / 'run' / 'epoch_1.pth', weights_only=False)
    for name in ('state_dict', 'ema_state_dict'):
        assert not any('teacher' in key for key in saved[name])
    scalars = runner.message_hub.log_scalars
    assert {'train/loss_tokens', 'train/loss_token_ratio'} <= set(scalars)
    assert 'val/token_reduction/mean_cost' in scalars
    # Its own losses, once: the hook adds none.
    assert not runner.model._forward_hooks
