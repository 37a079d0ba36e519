"""The gate sees what the host predicts from, or the host is refused."""

import copy

import pytest
import torch
from builders import classification
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier, LinearClsHead
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

from mmscope.engine.hooks.confidence_gate import CoarseStageLosses
from mmscope.models import MambaScope, MultiLabelExitHead, attach_gate
from mmscope.models.layers import observe
from mmscope.models.scoping import ExitHeadGate, HostGate, at_threshold
from mmscope.models.scoping.wrapping import running_statistics


@pytest.fixture(autouse=True)
def in_its_scope():
    """Whatever host another test has made the default."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


DIMS, CLASSES = classification.DIMS, len(classification.COLOURS)
LINEAR = {'type': 'LinearClsHead', 'topk': (1,)}


def host(head=LINEAR, neck=None, kind=ImageClassifier, **options):
    config = classification.classifier('ImageClassifier', head, **options)
    del config['type']
    if head['type'] in ('RegressionHead', 'ClsHead', 'MultiLabelClsHead'):
        config['head'] = head
    return kind(**config, neck=neck).eval()


@torch.no_grad()
def scores_of_who_exit(model):
    """What the host says of images that all exit, and their confidence."""
    attach_gate(model)
    with at_threshold(model, 0.0):
        samples = model.predict(torch.randn(3, 3, 64, 64))
    scores = torch.stack([sample.pred_score for sample in samples])
    return scores, samples, model.backbone.last_exit.confidence


NECKS = {
    'none': None,
    'linear': {
        'type': 'LinearNeck',
        'in_channels': DIMS,
        'out_channels': 8,
        'gap_dim': 0,
    },
}
HEADS = {
    'linear': LINEAR,
    'stacked': {'type': 'StackedLinearClsHead', 'mid_channels': [8]},
    'arcface': {'type': 'ArcFaceClsHead'},
    'efficient': {'type': 'EfficientFormerClsHead'},
    'levit': {'type': 'LeViTClsHead', 'distillation': False},
}


@pytest.mark.parametrize('neck', NECKS)
@pytest.mark.parametrize('name', HEADS)
def test_confidence_is_the_probability_that_the_host_predicts(name, neck):
    head = {**HEADS[name], **({'in_channels': 8} if NECKS[neck] else {})}
    model = host(head, NECKS[neck])
    for param in model.head.parameters():
        nn.init.normal_(param, std=0.5)
    scores, _, confidence = scores_of_who_exit(model)
    assert torch.allclose(confidence, scores.amax(-1))
    assert scores.std() > 0


@pytest.mark.parametrize('options', [{}, {'thr': 0.3}, {'topk': 2}])
@pytest.mark.parametrize('kind', ['mean_present', 'min_present'])
def test_a_multi_label_host_says_which_classes_are_present(options, kind):
    head = {'type': 'MultiLabelLinearClsHead', **options}
    model = host(head)
    nn.init.normal_(model.head.fc.weight, std=0.5)
    attach_gate(model, confidence=kind)
    scores, samples, confidence = scores_of_who_exit(model)
    for row, sample, value in zip(scores, samples, confidence, strict=True):
        named = row[sample.pred_label]
        if not len(named):
            assert value == 0
            continue
        wanted = named.mean() if kind == 'mean_present' else named.min()
        assert torch.allclose(value, wanted)


class Halving(LinearClsHead):
    def predict(self, feats, data_samples=None):
        return super().predict([x / 2 for x in feats], data_samples)


class Normalising(ImageClassifier):
    def extract_feat(self, inputs, stage='neck'):
        feats = super().extract_feat(inputs, stage)
        return tuple(nn.functional.normalize(x) for x in feats)


@pytest.mark.parametrize(
    ('case', 'message'),
    [
        ({'head': {'type': 'LinearRegressionHead'}}, 'cannot tell what'),
        ({'head': {'type': 'ConformerHead'}}, 'cannot tell what'),
        ({'head': {'type': 'DeiTClsHead'}}, 'cannot judge vectors'),
        ({'head': {'type': 'CSRAClsHead'}}, 'cannot judge vectors'),
        ({'neck': {'type': 'GlobalAveragePooling'}}, 'cannot judge'),
        ({'head': {**LINEAR, 'num_classes': 1}}, 'softmax over one class'),
        ({'out_type': 'featmap'}, "backbone.out_type='cls_token'"),
        ({'kind': Normalising}, 'Normalising has an extract_feat'),
    ],
)
def test_what_the_gate_could_not_follow_is_refused_when_wired(case, message):
    kind = case.get('head', {}).get('type', 'LinearClsHead')
    if MODELS.get(kind) is None:
        pytest.skip(f'this mmpretrain has no {kind}')
    if kind == 'CSRAClsHead':
        case['head'].update(num_heads=1, lam=0.1)
    if kind == 'ConformerHead':
        case['head']['in_channels'] = [DIMS, DIMS]
    model = host(**case)
    with pytest.raises(ValueError, match=message):
        attach_gate(model)


def test_a_head_with_a_prediction_of_its_own_is_asked_or_refused():
    model = host()
    model.head = Halving(CLASSES, DIMS)
    with pytest.raises(ValueError, match='cannot tell what a Halving'):
        attach_gate(model)
    Halving.meaning = 'softmax'
    attach_gate(model)


def test_trying_the_path_moves_no_statistics_and_no_random_numbers():
    model = host({'type': 'LeViTClsHead', 'distillation': False}).train()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    attach_gate(model)
    assert torch.equal(state, torch.get_rng_state())
    assert all(module.training for module in model.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_divergence_is_of_what_the_host_predicts():
    linear = {**LINEAR, 'in_channels': 8}
    model = host(linear, NECKS['linear']).train()
    with observe(model) as records:
        model.backbone(torch.randn(2, 3, 64, 64))
    sample = DataSample().set_gt_label(0)
    losses = CoarseStageLosses(1.0, 1.0, 'pq').losses(
        model, records, [sample] * 2
    )
    (record,) = records
    # Batch norm as in evaluation, where the gate will judge.
    with running_statistics(model):
        coarse, fine = (
            model.head(model.neck((cls,))).log_softmax(-1)
            for cls in (record.coarse_cls, record.fine_cls)
        )
    wanted = (fine.exp() * (fine - coarse)).sum(1).mean()
    assert torch.allclose(losses['loss_kl'], wanted)


def scope(**options):
    arch = {'embed_dims': DIMS, 'num_layers': 2}
    return MambaScope(arch=arch, img_size=64, **options).eval()


def trained(confidence='mean_present'):
    head = MultiLabelExitHead(7, DIMS, confidence=confidence)
    nn.init.normal_(head.fc.weight, std=0.5)
    head.num_updates += 1
    return head


def test_a_replaced_exit_head_is_judged_by_its_own_kind():
    config = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 4}
    model = scope(exit_head=config)
    head = model.exit_head = trained('min_present')
    attach_gate(model, 0.5)
    imgs = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        model(imgs)
        config.update(num_classes=7, confidence='min_present')
        twin = scope(exit_head=config, exit_threshold=0.5)
        twin.load_state_dict(model.state_dict())
        twin(imgs)
    assert (model.gate.kind, model.gate.head) == ('min_present', head)
    confidence = model.last_exit.confidence
    assert torch.equal(confidence, twin.last_exit.confidence)


@torch.no_grad()
def test_an_exit_head_put_there_later_decides():
    imgs = torch.randn(2, 3, 64, 64)
    alone = scope(exit_threshold=0.5)
    alone.exit_head = trained()
    alone(imgs)
    assert alone.last_exit.confidence is not None
    alone.gate.temperature = 2.0
    assert alone.gate.temperature == 2.0
    model = host()
    attach_gate(model, 0.5)
    assert isinstance(model.backbone.gate, HostGate)
    model.backbone.exit_head = trained()
    assert isinstance(model.backbone.gate, ExitHeadGate)
    model.backbone(imgs)
    assert copy.deepcopy(model).backbone.gate.owner is not model.backbone


def test_an_exit_head_that_was_taken_away_decides_no_more():
    model = scope(exit_head={'type': 'MultiLabelExitHead', 'num_classes': 4})
    model.exit_head = None
    with (
        at_threshold(model, 0.5),
        pytest.raises(RuntimeError, match='nothing'),
    ):
        model(torch.randn(1, 3, 64, 64))


def test_a_replaced_host_head_is_judged_by_its_own_meaning():
    model = host()
    attach_gate(model)
    model.head = MODELS.build(
        {
            'type': 'MultiLabelLinearClsHead',
            'num_classes': CLASSES,
            'in_channels': DIMS,
        }
    )
    with torch.no_grad():
        model.head.fc.weight.zero_()
        model.head.fc.bias.fill_(9.0)
    _, _, confidence = scores_of_who_exit(model)
    assert confidence.min() > 0.99
