"""A training that breaks names the layer, before its weights change."""

import pytest
import torch
from builders import classification

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
    assert 'weights not finite since an earlier step' in text
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


def test_no_interval_is_refused():
    from mmscope.engine import FirstBadLayerHook

    with pytest.raises(ValueError, match='interval is 0, expected at least 1'):
        FirstBadLayerHook(interval=0)
