"""A training that breaks names the layer, before its weights change."""

import pytest
import torch
from builders import classification, segmentation
from mmengine.hooks import Hook

pytest.importorskip('mmpretrain', reason='needs mmpretrain')


def training(tmp_path, **options):
    root = classification.write_photos(tmp_path / 'data', per_class=4)
    hook = {'type': 'mmscope.FirstBadLayerHook', **options}
    return classification.runner(
        root,
        tmp_path / 'work',
        # Without batch statistics or chance: a step is what its batch says.
        classification.classifier(drop_path_rate=0.0),
        epochs=1,
        custom_hooks=[{'type': 'mmscope.ConfidenceGateHook'}, hook],
    )


def break_at(runner, layer, step, value):
    """Let a layer give a value from a step on; count its steps."""
    steps = []

    def broken(module, args, output):
        steps.append(1)
        # Both stages of a step call it.
        return output * value if len(steps) > 2 * (step - 1) else None

    layer.register_forward_hook(broken)


def test_the_first_layer_is_named_with_its_images(tmp_path):
    runner = training(tmp_path, interval=1)
    backbone = runner.model.backbone
    break_at(runner, backbone.layers[2].norm, 2, float('nan'))
    with pytest.raises(RuntimeError) as told:
        runner.train()
    text = str(told.value)
    assert text.startswith('step 2: ')
    assert (
        'First layer whose output is not: backbone.layers.2.norm (RMSNorm); '
        'input finite, weights finite. Images: '
    ) in text
    assert text.count('.png') == 4
    assert all(p.isfinite().all() for p in runner.model.parameters())
    assert not runner.model._forward_hooks
    assert len(backbone.layers[2].norm._forward_hooks) == 1


def test_weights_that_broke_between_two_looks_are_told(tmp_path):
    runner = training(tmp_path, interval=3)
    break_at(runner, runner.model.backbone.layers[2].norm, 2, float('inf'))
    with pytest.raises(RuntimeError) as told:
        runner.train()
    text = str(told.value)
    assert text.startswith('step 3: ')
    assert 'Weights not finite before this step: backbone.' in text
    assert ' more. An earlier step broke them' in text
    assert 'with interval=1' in text


def test_an_image_that_is_not_finite_is_not_the_layer_s_fault(tmp_path):
    runner = training(tmp_path, interval=1)
    make = runner.model.data_preprocessor

    def spoil(module, args, output):
        output['inputs'][0, 0, 0, 0] = torch.nan
        return output

    make.register_forward_hook(spoil)
    with pytest.raises(RuntimeError, match='input not finite, weights finite'):
        runner.train()


def test_a_training_that_is_well_goes_on_and_keeps_no_hook(tmp_path):
    runner = training(tmp_path, interval=2)
    runner.train()
    assert runner.iter == 3
    assert not runner.model._forward_hooks


class Spoils(Hook):
    """Puts NaN into a parameter or a buffer before a step."""

    def __init__(self, name):
        self.name = name

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 1:
            runner.model.state_dict()[self.name].view(-1)[0] = torch.nan


@pytest.mark.parametrize(
    'name',
    [
        'backbone.layers.1.mixer.A_log',
        'backbone.layers.0.mixer.D',
        'backbone.cls_token',
        'backbone.pos_embed',
        'head.fc.bias',
    ],
)
def test_a_weight_that_a_composite_module_holds_is_named(tmp_path, name):
    runner = training(tmp_path, interval=1)
    runner.register_hook(Spoils(name))
    told = rf'step 2: .* Weights not finite before this step: {name}\. '
    with pytest.raises(RuntimeError, match=told):
        runner.train()


def test_statistics_follow_and_masks_are_infinite():
    from mmscope.engine.hooks.first_bad_layer import bad_weights

    model = torch.nn.Sequential(torch.nn.BatchNorm1d(2))
    model.register_buffer('mask', torch.tensor([0.0, -torch.inf]))
    model(torch.full((2, 2), torch.nan))
    assert model[0].running_mean.isnan().all()
    assert bad_weights(model) == ''
    # Statistics that are read are a cause.
    assert '0.running_mean, 0.running_var' in bad_weights(model.eval())
    assert 'mask' not in bad_weights(model)


def plain_segmentor(scenes, tmp_path):
    pytest.importorskip('mmseg.models')
    hooks = ['mmscope.ConfidenceGateHook', 'mmscope.FirstBadLayerHook']
    runner = segmentation.runner(
        scenes,
        tmp_path,
        segmentation.segmentor('EncoderDecoder'),
        custom_hooks=[{'type': hooks[0]}, {'type': hooks[1], 'interval': 1}],
    )
    return runner, runner.model.backbone.exit_head


def test_an_exit_head_of_a_plain_host_is_named(scenes, tmp_path):
    runner, _ = plain_segmentor(scenes, tmp_path)
    runner.register_hook(Spoils('backbone.exit_head.fc.weight'))
    told = 'Weights not finite before this step: backbone.exit_head.fc.weight'
    with pytest.raises(RuntimeError, match=told):
        runner.train()


def test_losses_that_a_hook_added_are_told(scenes, tmp_path):
    runner, head = plain_segmentor(scenes, tmp_path)
    break_at(runner, head, 1, float('nan'))
    told = (
        'finite values once more, but loss_exit_coarse, loss_exit_fine, '
        'loss_exit_distill came from hooks on the model'
    )
    with pytest.raises(RuntimeError, match=told):
        runner.train()


@pytest.mark.parametrize('error', [KeyboardInterrupt, KeyError])
def test_a_forward_that_breaks_off_leaves_no_hook(tmp_path, error):
    runner = training(tmp_path, interval=1)

    def breaks(module, args):
        raise error

    handle = runner.model.head.register_forward_pre_hook(breaks)
    with pytest.raises(error):
        runner.train()
    handle.remove()
    assert not runner.model._forward_hooks
    # It failed on the list of predictions.
    assert 'accuracy/top1' in runner.test()


def test_a_step_may_predict_as_well(tmp_path):
    runner = training(tmp_path, interval=1)
    model = runner.model
    losses = model.loss

    def predicts_first(inputs, data_samples):
        model.eval()
        assert len(model(inputs, mode='predict')) == len(inputs)
        model.train()
        return losses(inputs, data_samples)

    model.loss = predicts_first
    runner.train()
    assert runner.iter == 3


@pytest.mark.parametrize('value', [0, -1, '50', None, 1.5, True])
def test_no_interval_is_refused(value):
    from mmscope.engine import FirstBadLayerHook

    told = rf'interval must be a whole number of at least 1, got {value!r}'
    with pytest.raises(ValueError, match=told):
        FirstBadLayerHook(interval=value)
