import copy

import pytest
import torch
from builders import segmentation
from mmengine.hooks import Hook
from mmengine.runner import load_checkpoint

from mmscope.engine import ConfidenceGateHook
from mmscope.models.layers import find_observed, is_observed
from mmscope.models.scoping import find_backbone

HOOK = {'type': 'mmscope.ConfidenceGateHook'}


def trained(scenes, tmp_path, host='EncoderDecoder', **overrides):
    runner = segmentation.runner(
        scenes, tmp_path, segmentation.segmentor(host), **overrides
    )
    runner.train()
    return runner


def losses_of(runner):
    scalars = runner.message_hub.log_scalars
    return {k.removeprefix('train/') for k in scalars if 'loss' in k}


def test_a_plain_host_trains_its_exit_head_through_the_hook(scenes, tmp_path):
    runner = trained(scenes, tmp_path)
    assert {
        'loss_exit_coarse',
        'loss_exit_fine',
        'loss_exit_distill',
        'loss_feature_consistency',
    } <= losses_of(runner)
    head = runner.model.backbone.exit_head
    assert head.num_updates == 3
    assert not runner.model._forward_hooks


def test_our_host_does_not_get_the_losses_twice(scenes, tmp_path):
    runner = trained(scenes, tmp_path, 'mmscope.EarlyExitEncoderDecoder')
    assert 'loss_feature_consistency' not in losses_of(runner)
    assert runner.model.backbone.exit_head.num_updates == 3


@pytest.mark.parametrize(
    'host', ['EncoderDecoder', 'mmscope.EarlyExitEncoderDecoder']
)
def test_statistics_reach_metrics_and_message_hub(scenes, tmp_path, host):
    hooks = [{**HOOK, 'exit_threshold': 0}]
    runner = trained(scenes, tmp_path, host, custom_hooks=hooks)
    hub = runner.message_hub
    assert hub.get_scalar('val/early_exit/exit_ratio').current() == 1.0
    # 64 x 96 pixels: a coarse grid of 2 x 3 and cls.
    assert hub.get_scalar('val/early_exit/mean_tokens').current() == 7
    cheap = hub.get_scalar('val/early_exit/mean_cost').current()
    find_backbone(runner.model).exit_threshold = 2.0
    hook = next(h for h in runner._hooks if type(h) is ConfidenceGateHook)
    hook.exit_threshold = 2.0
    metrics = runner.test()
    assert metrics['early_exit/exit_ratio'] == 0.0
    # 5 of 6 regions refined: 4 * 5 + 1 + 1 tokens more.
    assert metrics['early_exit/mean_tokens'] == 7 + 22
    assert metrics['early_exit/mean_cost'] > cheap
    assert 'mIoU' in metrics


def test_the_hook_wins_over_the_model_threshold(scenes, tmp_path):
    model = segmentation.segmentor()
    model['exit_threshold'] = 2.0
    hooks = [{**HOOK, 'exit_threshold': 0}]
    runner = segmentation.runner(scenes, tmp_path, model, custom_hooks=hooks)
    metrics = runner.test()
    assert metrics['early_exit/exit_ratio'] == 1.0


def test_no_threshold_at_all_never_exits(scenes, tmp_path):
    runner = segmentation.runner(scenes, tmp_path, segmentation.segmentor())
    assert runner.test()['early_exit/exit_ratio'] == 0.0


def test_slide_windows_add_up_per_image(scenes, tmp_path):
    whole, slide = (
        segmentation.runner(
            scenes, tmp_path / mode, segmentation.segmentor(mode=mode)
        ).test()
        for mode in ('whole', 'slide')
    )
    assert whole['early_exit/mean_tokens'] == 7 + 22
    # Two windows of 64 x 64: 2 x 2 regions, all four refined.
    assert slide['early_exit/mean_tokens'] == 2 * (5 + 17)
    assert slide['early_exit/mean_cost'] > whole['early_exit/mean_cost']


def test_test_time_augmentation_counts_every_view(scenes, tmp_path):
    runner = segmentation.runner(scenes, tmp_path, segmentation.segmentor())
    plain = runner.test()
    loader = copy.deepcopy(
        segmentation.dataloader(scenes, False, batch_size=1)
    )
    views = [
        [{'type': 'RandomFlip', 'prob': p} for p in (0.0, 1.0)],
        [{'type': 'LoadAnnotations', 'reduce_zero_label': True}],
        [{'type': 'PackSegInputs'}],
    ]
    loader['dataset']['pipeline'] = [
        {'type': 'LoadImageFromFile'},
        {'type': 'TestTimeAug', 'transforms': views},
    ]
    model = {
        'type': 'SegTTAModel',
        'module': segmentation.segmentor(),
    }
    metrics = segmentation.runner(
        scenes, tmp_path / 'tta', model, test_dataloader=loader
    ).test()
    for key in ('mean_tokens', 'mean_cost'):
        key = f'early_exit/{key}'
        assert metrics[key] == pytest.approx(2 * plain[key])
    assert metrics['early_exit/exit_ratio'] == 0.0


def test_ema_evaluation_equals_loading_the_ema_checkpoint(scenes, tmp_path):
    hooks = [
        {**HOOK, 'exit_threshold': 0.5},
        {'type': 'EMAHook', 'momentum': 0.3},
    ]
    runner = trained(
        scenes,
        tmp_path,
        'mmscope.EarlyExitEncoderDecoder',
        custom_hooks=hooks,
        iters=4,
    )
    online = {
        k: runner.message_hub.get_scalar(f'val/{k}').current()
        for k in ('mIoU', 'early_exit/exit_ratio', 'early_exit/mean_cost')
    }
    fresh = segmentation.runner(
        scenes,
        tmp_path / 'fresh',
        segmentation.segmentor(),
        custom_hooks=hooks[:1],
        seed=1,
    )
    # CheckpointHook stores the EMA weights as state_dict.
    load_checkpoint(fresh.model, str(tmp_path / 'iter_4.pth'))
    loaded = fresh.test()
    for key, value in online.items():
        assert loaded[key] == pytest.approx(value, abs=1e-6), key


def test_the_hook_refuses_a_model_without_coarse_stage(scenes, tmp_path):
    model = segmentation.segmentor('EncoderDecoder')
    model['backbone'].pop('exit_head')
    model['backbone']['type'] = 'mmscope.VisionMamba'
    with pytest.raises(ValueError, match='needs a two-stage backbone'):
        segmentation.runner(scenes, tmp_path, model).test()


@pytest.mark.parametrize(
    ('option', 'value', 'message'),
    [
        ('confidence', 'nonsense', "confidence must be .* got 'nonsense'"),
        ('confidence', '', "confidence must be .* got ''"),
        ('kl_direction', 'up', "kl_direction must be .* got 'up'"),
        ('temperature', 0.0, 'temperature must be'),
        ('temperature', 'hot', 'temperature must be'),
        ('kl_weight', -1, 'kl_weight must be .* got -1'),
        ('kl_weight', float('nan'), 'kl_weight must be .* got nan'),
        ('kl_weight', 'x', "kl_weight must be .* got 'x'"),
        ('feature_weight', -1, 'feature_weight must be .* got -1'),
        ('feature_weight', True, 'feature_weight must be .* got True'),
    ],
)
def test_bad_options_are_refused_when_built(option, value, message):
    with pytest.raises(ValueError, match=message):
        ConfidenceGateHook(**{option: value})


@pytest.mark.parametrize(
    'host', ['EncoderDecoder', 'mmscope.EarlyExitEncoderDecoder']
)
def test_any_host_trains_a_map_that_then_decides(scenes, tmp_path, host):
    model = segmentation.segmentor(host)
    model['backbone']['exit_head']['confidence'] = 'map'
    hooks = [{**HOOK, 'exit_threshold': 0.5, 'temperature': 4.0}]
    runner = segmentation.runner(
        scenes, tmp_path, model, custom_hooks=hooks, iters=2
    )
    fresh = runner.model.backbone.exit_head.fc_map.weight.clone()
    runner.train()
    assert 'loss_exit_map' in losses_of(runner)
    backbone = runner.model.backbone
    assert backbone.exit_head.num_map_updates == 2
    assert not torch.equal(backbone.exit_head.fc_map.weight, fresh)
    # The validation behind it gated.
    assert (backbone.gate.kind, backbone.gate.temperature) == ('map', 4.0)
    assert backbone.last_exit.confidence.min() >= 1 / 3


@pytest.mark.parametrize('value', ['0.5', -1, float('nan')])
def test_bad_thresholds_are_refused_when_built(value):
    with pytest.raises(ValueError, match='exit_threshold must be'):
        ConfidenceGateHook(exit_threshold=value)


def test_a_gated_inferencer_exits_without_any_runner(scenes, tmp_path):
    apis = pytest.importorskip('mmseg.apis')

    runner = segmentation.runner(scenes, tmp_path, segmentation.segmentor())
    model = runner.model.eval()
    model.cfg = runner.cfg
    model.cfg.test_pipeline = runner.cfg.test_dataloader.dataset.pipeline
    model.backbone.exit_threshold = 0
    apis.inference_model(model, str(next((scenes / 'images').iterdir())))
    assert model.backbone.last_exit.exited.tolist() == [True]
    assert torch.is_tensor(model.backbone.last_exit.importance)


def attached(model):
    """Hooks on modules, and lists that observe them."""
    hooks = sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for module in model.modules()
    )
    return hooks, is_observed(find_observed(model))


class Interrupts(Hook):
    """What Ctrl-C does, in the middle of a loop."""

    priority = 'LOWEST'

    def __init__(self, stage):
        setattr(self, f'before_{stage}_iter', self.interrupt)

    def interrupt(self, runner, *args, **kwargs):
        assert attached(runner.model) != (0, False)
        raise KeyboardInterrupt


@pytest.mark.parametrize('stage', ['train', 'val', 'test'])
def test_an_interrupted_loop_leaves_nothing_attached(scenes, tmp_path, stage):
    runner = segmentation.runner(
        scenes, tmp_path, segmentation.segmentor('EncoderDecoder'), iters=1
    )
    start = runner.test if stage == 'test' else runner.train
    runner.register_hook(Interrupts(stage))
    with pytest.raises(KeyboardInterrupt):
        start()
    assert attached(runner.model) == (0, False)
    # It can go on afterwards.
    runner._hooks = [h for h in runner._hooks if type(h) is not Interrupts]
    assert 'early_exit/mean_tokens' in runner.test()
    assert attached(runner.model) == (0, False)
