import pytest
from builders import classification, segmentation
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

pytest.importorskip('mmseg.models')
from mmseg.registry import MODELS


def wrapper_for(model, lr=1.0, **paramwise):
    rate = {} if lr is None else {'lr': lr}
    return build_optim_wrapper(
        model,
        {
            'type': 'OptimWrapper',
            'constructor': 'mmscope.LayerDecayOptimWrapperConstructor',
            'optimizer': {'type': 'AdamW', **rate, 'weight_decay': 0.1},
            'paramwise_cfg': paramwise,
        },
    )


@pytest.fixture
def model():
    init_default_scope('mmseg')
    return MODELS.build(ConfigDict(segmentation.segmentor()))


def test_rates_fall_towards_the_embeddings(model):
    keys = {'A_log': {'decay_mult': 0.0}, 'layers.2': {'lr_mult': 3.0}}
    groups = wrapper_for(
        model, layer_decay_rate=0.5, custom_keys=keys
    ).optimizer.param_groups
    names = {id(p): n for n, p in model.named_parameters()}
    rates = {names[id(g['params'][0])]: g['lr'] for g in groups}
    assert rates['backbone.pos_embed'] == 0.5**5
    assert rates['backbone.coarse_pos_embed'] == 0.5**5
    assert rates['backbone.layers.0.mixer.D'] == 0.5**4
    assert rates['backbone.layers.2.mixer.D'] == 3 * 0.5**2
    assert rates['backbone.layers.3.mixer.D'] == 0.5
    assert rates['decode_head.conv_seg.weight'] == 1.0
    decays = {names[id(g['params'][0])]: g['weight_decay'] for g in groups}
    assert decays['backbone.layers.1.mixer.A_log'] == 0.0
    assert decays['backbone.layers.1.mixer.out_proj.weight'] == 0.1
    assert len(rates) == len(list(model.parameters()))


@pytest.mark.parametrize('rate', [None, 0.0, 1.5, '0.9', True])
def test_a_bad_rate_is_named(model, rate):
    with pytest.raises(ValueError, match='layer_decay_rate'):
        wrapper_for(model, layer_decay_rate=rate)


def test_a_backbone_without_depths_is_named(model):
    del model.backbone
    with pytest.raises(ValueError, match='a backbone of mmscope'):
        wrapper_for(model, layer_decay_rate=0.5)


def test_an_optimiser_without_a_rate_is_told(model):
    with pytest.raises(ValueError, match=r'set optim_wrapper\.optimizer\.lr'):
        wrapper_for(model, lr=None, layer_decay_rate=0.5)


def wrapped(backbone, depth=50):
    pytest.importorskip('mmpretrain.models')
    head = {'type': 'LinearClsHead'}
    config = classification.classifier('ImageClassifier', head)
    if backbone == 'ResNet':
        config['head']['in_channels'] = 2048 if depth == 50 else 512
    inner = {**config['backbone'], 'type': backbone}
    if backbone == 'ResNet':
        inner = {'type': backbone, 'depth': depth}
    exit_head = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 3}
    config['backbone'] = {
        'type': 'mmscope.ExitOnly',
        'backbone': inner,
        'exit_head': exit_head,
    }
    init_default_scope('mmpretrain')
    from mmpretrain.registry import MODELS

    return MODELS.build(ConfigDict(config))


def test_a_backbone_inside_of_another_one_is_asked():
    model = wrapped('mmscope.VisionMamba')
    groups = wrapper_for(model, layer_decay_rate=0.5).optimizer.param_groups
    names = {id(p): n for n, p in model.named_parameters()}
    rates = {names[id(g['params'][0])]: g['lr'] for g in groups}
    assert rates['backbone.backbone.pos_embed'] == 0.5**5
    assert rates['backbone.backbone.layers.0.mixer.D'] == 0.5**4
    assert rates['backbone.backbone.layers.3.mixer.D'] == 0.5
    assert rates['backbone.exit_head.fc.weight'] == 1.0
    assert rates['head.fc.weight'] == 1.0


def test_the_backbone_inside_is_named_that_knows_no_depths():
    with pytest.raises(ValueError, match='got ExitOnly around ResNet: use'):
        wrapper_for(wrapped('ResNet', 18), layer_decay_rate=0.5)
    model = wrapped('ResNet')
    groups = wrapper_for(model, layer_decay_rate=0.5).optimizer.param_groups
    assert groups[-1]['lr'] > groups[0]['lr'] > 0
