"""What trains the coarse stage of classifiers, stock ones and ours."""

import pytest
import torch
from builders import classification
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

pytest.importorskip('mmpretrain.models', reason='needs mmpretrain')
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

EXIT_HEAD = {
    'type': 'mmscope.MultiLabelExitHead',
    'num_classes': len(classification.COLOURS),
}
EXIT = {'loss_exit_coarse', 'loss_exit_fine', 'loss_exit_distill'}


@pytest.fixture(scope='session')
def photos(tmp_path_factory):
    return classification.write_photos(tmp_path_factory.mktemp('photos'))


def losses_of(photos, work_dir, model):
    runner = classification.runner(photos, work_dir, model, epochs=1)
    runner.train()
    scalars = runner.message_hub.log_scalars
    # MMEngine's sum is among them.
    return {k.removeprefix('train/') for k in scalars if 'loss' in k}


@pytest.mark.parametrize('head', ['LinearClsHead', 'VisionTransformerClsHead'])
def test_an_exit_head_leaves_a_plain_classifier_its_divergence(
    photos, tmp_path, head
):
    model = classification.classifier(
        'ImageClassifier', {'type': head}, exit_head=EXIT_HEAD
    )
    found = losses_of(photos, tmp_path, model)
    assert found == {'loss', 'loss_kl'} | EXIT


def test_a_head_that_brings_its_divergence_gets_none_more(photos, tmp_path):
    model = classification.classifier('ImageClassifier', exit_head=EXIT_HEAD)
    model['head']['kl_weight'] = 0.0
    runner = classification.runner(photos, tmp_path, model, epochs=1)
    runner.train()
    assert runner.message_hub.get_scalar('train/loss_kl').current() == 0.0


def test_batch_norm_of_a_neck_sees_a_batch_once_a_step(photos, tmp_path):
    model = classification.classifier(
        'ImageClassifier', {'type': 'LinearClsHead'}
    )
    dims = {'in_channels': 16, 'out_channels': 16}
    model['neck'] = {'type': 'LinearNeck', **dims}
    runner = classification.runner(photos, tmp_path, model, epochs=1)
    runner.train()
    assert runner.model.neck.norm.num_batches_tracked == runner.iter
    assert runner.message_hub.get_scalar('train/loss_kl').current() > 0


@pytest.mark.parametrize(
    ('head', 'why'),
    [
        ({'type': 'MultiLabelLinearClsHead'}, 'predicts multi_label'),
        # It predicts from two tokens.
        ({'type': 'DeiTClsHead'}, 'DeiTClsHead'),
    ],
)
def test_heads_without_a_distribution_train_by_their_exit_head(
    photos, head, why, said
):
    from mmscope.engine.hooks.confidence_gate import CoarseStageLosses
    from mmscope.models.layers import observe

    init_default_scope('mmpretrain')
    config = classification.classifier(
        'ImageClassifier', head, exit_head=EXIT_HEAD
    )
    model = MODELS.build(ConfigDict(config)).train()
    with observe(model) as records:
        model.backbone(torch.randn(2, 3, 64, 64))
    samples = [DataSample().set_gt_label(i) for i in (0, 1)]
    added = CoarseStageLosses(1.0, 1.0, 'pq')
    for _ in range(2):
        assert set(added.losses(model, records, samples)) == EXIT
    assert why in said.text
    # It is said once.
    assert said.text.count('no loss_kl') == 1


@pytest.mark.parametrize(
    'value', [-1, '1', None, float('nan'), float('inf'), True]
)
def test_a_bad_weight_of_our_head_is_named(value):
    head = {'type': 'mmscope.CoarseToFineClsHead', 'kl_weight': value}
    init_default_scope('mmpretrain')
    told = f'kl_weight must be a finite number >= 0, got {value!r}'
    with pytest.raises(ValueError, match=told):
        MODELS.build(ConfigDict(classification.classifier(head=head)))


@pytest.mark.parametrize('case', ['evaluation', 'neck'])
def test_our_head_tells_why_a_stage_may_be_missing(case):
    config = classification.classifier()
    if case == 'neck':
        dims = {'in_channels': 16, 'out_channels': 16}
        config['neck'] = {'type': 'LinearNeck', **dims}
    init_default_scope('mmpretrain')
    model = MODELS.build(ConfigDict(config)).train(case == 'neck')
    samples = [DataSample().set_gt_label(i) for i in (0, 1)]
    with pytest.raises(ValueError, match='got 1 feature') as told:
        model.loss(torch.randn(2, 3, 64, 64), samples)
    assert 'call model.train()' in str(told.value)
    assert 'LinearNeck keeps the last' in str(told.value)
