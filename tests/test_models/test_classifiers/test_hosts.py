"""Early exits in mmpretrain's own ways of running a classifier."""

import pytest
import torch
from builders import classification
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmpretrain import ImageClassificationInferencer, inference_model
from mmpretrain.apis import ModelHub, get_model
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmscope.models.scoping import find_backbone

EMA = {'type': 'EMAHook', 'momentum': 0.01, 'priority': 'ABOVE_NORMAL'}
GATE = {'type': 'mmscope.ConfidenceGateHook'}
PLAIN = {'host': 'ImageClassifier', 'head': {'type': 'LinearClsHead'}}


def build(**options):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    config = classification.classifier(**options)
    return MODELS.build(ConfigDict(config)).eval()


def hub_scalar(runner, name):
    return runner.message_hub.get_scalar(name).current()


def test_predictions_are_the_coarse_or_the_fine_ones():
    model = build()
    imgs = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        model.backbone.exit_threshold = 0
        exited = model(imgs)
        coarse = model.backbone.forward_coarse(imgs)
        assert torch.equal(exited, model.head((coarse.cls,)))
        model.backbone.exit_threshold = 2
        fine = model.backbone.forward_fine(imgs, coarse)
        assert torch.equal(model(imgs), model.head((fine.cls,)))
        assert not torch.allclose(exited, model(imgs))


def test_only_the_unsure_images_go_on():
    model = build()
    imgs = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        model.backbone.exit_threshold = 2
        fine = model(imgs)
        confidence = model.backbone.last_exit.confidence
        model.backbone.exit_threshold = 0
        coarse = model(imgs)
        assert torch.allclose(confidence, coarse.softmax(-1).amax(-1))
        between = confidence.sort().values[1:3].mean().item()
        model.backbone.exit_threshold = between
        mixed = model(imgs)
    exited = model.backbone.last_exit.exited
    assert torch.equal(exited, confidence >= between)
    assert exited.sum() == 2
    assert torch.allclose(mixed, torch.where(exited[:, None], coarse, fine))


@pytest.mark.parametrize('options', [{}, PLAIN])
def test_a_classifier_trains_and_counts_its_exits(photos, tmp_path, options):
    model = classification.classifier(**options)
    runner = classification.runner(
        photos,
        tmp_path,
        model,
        custom_hooks=[{**GATE, 'exit_threshold': 0}, EMA],
    )
    runner.train()
    for loss in ('loss', 'loss_kl'):
        assert hub_scalar(runner, f'train/{loss}') > 0
    assert hub_scalar(runner, 'val/early_exit/exit_ratio') == 1.0
    # 64 px: 2 x 2 regions and cls.
    assert hub_scalar(runner, 'val/early_exit/mean_tokens') == 5
    assert not runner.model._forward_hooks


def test_a_plain_classifier_learns_as_ours_does(photos, tmp_path):
    values = []
    for name, options in (('ours', {}), ('plain', PLAIN)):
        model = classification.classifier(**options)
        # The same numbers are drawn for the two heads.
        model['head']['init_cfg'] = {
            'type': 'TruncNormal',
            'layer': 'Linear',
            'std': 0.02,
        }
        runner = classification.runner(
            photos, tmp_path / name, model, epochs=1
        )
        runner.train()
        hub = runner.message_hub
        values.append(
            [hub.get_scalar(f'train/{n}').data[0] for n in ('loss', 'loss_kl')]
        )
    assert values[0][1][0] == pytest.approx(values[1][1][0], rel=1e-5)
    assert values[0][0] == pytest.approx(values[1][0], rel=1e-5)


def test_ema_averages_gate_and_model_alike(photos, tmp_path):
    runner = classification.runner(
        photos,
        tmp_path,
        classification.classifier(),
        custom_hooks=[{**GATE, 'exit_threshold': 0.0}, EMA],
    )
    runner.train()
    hook = next(h for h in runner._hooks if type(h).__name__ == 'EMAHook')
    copied = hook.ema_model.module
    assert list(copied.state_dict()) == list(runner.model.state_dict())
    assert copied.backbone.gate.head is copied.head
    assert copied.backbone.gate.head is not runner.model.head
    # The average decides, by the threshold of the hook.
    assert runner.test()['early_exit/exit_ratio'] == 1


def test_the_hook_wins_over_the_model_and_the_model_over_the_backbone(
    photos, tmp_path
):
    model = classification.classifier(exit_threshold=2.0)
    model['exit_threshold'] = 0.0
    found = {}
    for name, hook in (
        ('none', GATE),
        ('hook', {**GATE, 'exit_threshold': 2.0}),
    ):
        runner = classification.runner(
            photos, tmp_path / name, model, custom_hooks=[hook]
        )
        found[name] = runner.test()['early_exit/exit_ratio']
    assert found == {'none': 1.0, 'hook': 0.0}


def test_another_kind_of_confidence_is_kept_by_the_hook(photos, tmp_path):
    model = classification.classifier()
    model['confidence'] = 'entropy'
    runner = classification.runner(photos, tmp_path, model)
    runner.test()
    assert find_backbone(runner.model).gate.kind == 'entropy'


METAFILE = """
Collections:
  - Name: MambaScope
Models:
  - Name: {name}
    In Collection: MambaScope
    Config: {config}
    Results:
      - Task: Image Classification
        Dataset: synthetic
"""


@pytest.fixture(params=[True, False], ids=['exits', 'goes on'])
def published(request, photos, tmp_path):
    """A model in mmpretrain's hub, where inference_model looks it up."""
    config = classification.config(
        photos, tmp_path, classification.classifier()
    )
    config.model.exit_threshold = 0.0 if request.param else 2.0
    config.dump(tmp_path / 'config.py')
    name = f'mambascope_{tmp_path.name}'
    index = tmp_path / 'metafile.yml'
    index.write_text(METAFILE.format(name=name, config='config.py'))
    ModelHub.register_model_index(index)
    return name, request.param


def test_inference_without_a_runner_exits_early(published, photos):
    name, exits = published
    model = get_model(name, device='cpu')
    image = str(next(photos.glob('*/*.png')))
    alone = inference_model(model, image)
    assert model.backbone.last_exit.exited.tolist() == [exits]
    many = ImageClassificationInferencer(model)([image] * 3, batch_size=3)
    assert model.backbone.last_exit.exited.tolist() == [exits] * 3
    for result in many:
        assert result['pred_label'] == alone['pred_label']
        assert result['pred_score'] == pytest.approx(
            alone['pred_score'], rel=1e-4
        )


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'head': {'type': 'LinearClsHead'}}, 'got LinearClsHead: use'),
        ({'out_type': 'featmap'}, "out_type='cls_token', got 'featmap'"),
        ({'exit_threshold': 'high'}, 'a number >= 0 .* str'),
        ({'arch': {'embed_dims': 32, 'num_layers': 4}}, 'in_channels is 16'),
        ({'refine_ratio': 1.5}, 'refine_ratio'),
        ({'type': 'mmscope.VisionMamba'}, 'two-stage backbone'),
    ],
)
def test_parts_that_do_not_fit_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        build(**change)


def test_a_head_needs_both_stages():
    head = build().head
    with pytest.raises(ValueError, match='got 1 feature'):
        head.loss((torch.zeros(2, 16),), [])


@pytest.mark.parametrize(
    'option', [{'kl_direction': 'pp'}, {'kl_weight': -1.0}]
)
def test_bad_loss_options_are_named(option):
    head = {'type': 'mmscope.CoarseToFineClsHead', **option}
    with pytest.raises(ValueError, match=next(iter(option))):
        build(head=head)


def test_an_unknown_confidence_is_named():
    config = classification.classifier()
    config['confidence'] = 'margin'
    init_default_scope('mmpretrain')
    with pytest.raises(ValueError, match="got 'margin'"):
        MODELS.build(ConfigDict(config))


def test_an_exit_head_is_trained_by_the_classifier_itself():
    classes = len(classification.COLOURS)
    exit_head = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': classes}
    model = build(exit_head=exit_head).train()
    samples = [DataSample().set_gt_label(i) for i in (0, classes - 1)]
    losses = model.loss(torch.randn(2, 3, 64, 64), samples)
    assert set(losses) >= {'loss', 'loss_kl', 'loss_exit_coarse'}
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert model.backbone.exit_head.fc.weight.grad.abs().sum() > 0
    assert model.backbone.exit_head.is_trained
    model.eval().backbone.exit_threshold = 0.5
    with torch.no_grad():
        assert model(torch.randn(2, 3, 64, 64)).shape == (2, classes)
