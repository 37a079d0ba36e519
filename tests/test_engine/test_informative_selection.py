import logging

import pytest
import torch
from builders import segmentation
from mmengine.hooks import Hook
from mmengine.runner import load_checkpoint

from mmscope.engine import InformativeSelectionHook
from mmscope.models import MambaScope
from mmscope.models.scoping import find_backbone

GATE = {'type': 'mmscope.ConfidenceGateHook'}


class Watch(Hook):
    """Notes the state while it is in force, not after the run."""

    priority = 'LOWEST'

    def __init__(self):
        self.train, self.val = {}, {}

    def after_train_iter(self, runner, batch_idx, **_):
        self.train[runner.iter] = find_backbone(runner.model).selection

    def before_val_epoch(self, runner):
        self.val[runner.iter] = find_backbone(runner.model).selection


def make(scenes, tmp_path, begin, iters=6, hooks=(), by_epoch=False, **more):
    selection = {
        'type': 'mmscope.InformativeSelectionHook',
        'begin': begin,
        'by_epoch': by_epoch,
    }
    return segmentation.runner(
        scenes,
        tmp_path,
        segmentation.segmentor(),
        iters=iters,
        custom_hooks=[GATE, selection, *hooks],
        **more,
        train_cfg={
            'type': 'IterBasedTrainLoop',
            'max_iters': iters,
            'val_interval': 2,
        },
    )


def run(*args, **options):
    runner = make(*args, **options)
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    return watch


@pytest.mark.parametrize('begin', [4, 2 / 3])
def test_selection_starts_on_time_for_training_and_validation(
    scenes, tmp_path, begin
):
    watch = run(scenes, tmp_path, begin)
    off, on = dict.fromkeys(range(4), False), dict.fromkeys((4, 5), True)
    assert watch.train == {**off, **on}
    assert watch.val == {2: False, 4: False, 6: True}


def test_a_resumed_training_has_the_right_state_at_once(scenes, tmp_path):
    run(scenes, tmp_path, begin=3, iters=4)
    watch = run(scenes, tmp_path, begin=3, iters=6, resume=True)
    assert watch.train == {4: True, 5: True}
    run(scenes, tmp_path / 'b', begin=3, iters=4)
    watch = run(scenes, tmp_path / 'b', begin=5, iters=6, resume=True)
    assert watch.train == {4: False, 5: True}


@pytest.mark.parametrize(
    'begin', [-1, 1.0, 1.5, -0.5, float('nan'), True, '100', None]
)
def test_a_begin_out_of_range_is_refused(begin):
    with pytest.raises(ValueError, match='begin must be an int >= 0'):
        InformativeSelectionHook(begin)


def scope():
    arch = {'embed_dims': 16, 'num_layers': 2}
    return MambaScope(arch=arch, img_size=64).eval()


def test_weights_bring_along_whether_regions_were_selected():
    source, target = scope(), scope()
    imgs = torch.randn(2, 3, 64, 64)
    for state in (False, True):
        source.selection = state
        target.load_state_dict(source.state_dict())
        assert target.selection is state
        with torch.no_grad():
            assert torch.equal(target(imgs)[0], source(imgs)[0])
    # What does not say it changes nothing, nor does what is refused.
    target.selection = False
    state = source.state_dict()
    del state['_extra_state']
    target.load_state_dict(state)
    other = MambaScope(arch={'embed_dims': 32, 'num_layers': 2}, img_size=64)
    with pytest.raises(ValueError, match='another arch'):
        target.load_state_dict(other.state_dict())
    assert target.selection is False


@pytest.mark.parametrize(
    'average', [None, {}, {'begin_iter': 3}, {'update_buffers': True}]
)
def test_a_test_of_an_early_checkpoint_scores_as_its_validation(
    scenes, tmp_path, average
):
    hooks = []
    if average is not None:
        hooks = [{'type': 'EMAHook', 'momentum': 0.5, **average}]
    runner = make(scenes, tmp_path, begin=3, iters=4, hooks=hooks)
    seen = {}

    class Costs(Hook):
        priority = 'LOWEST'

        def after_val_epoch(self, runner, metrics=None):
            seen[runner.iter] = metrics['early_exit/mean_tokens']

    runner.register_hook(Costs())
    runner.train()
    assert seen[2] > seen[4]
    for step in (2, 4):
        test = make(
            scenes,
            tmp_path / str(step),
            begin=3,
            load_from=str(tmp_path / f'iter_{step}.pth'),
        )
        assert test.test()['early_exit/mean_tokens'] == seen[step]
        model = segmentation.runner(
            scenes, tmp_path / 'plain', segmentation.segmentor()
        ).model
        load_checkpoint(model, str(tmp_path / f'iter_{step}.pth'))
        assert find_backbone(model).selection is (step == 4)


def warned(runner, caplog):
    runner.logger.addHandler(caplog.handler)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        runner.test()
    runner.logger.removeHandler(caplog.handler)
    return [text for text in caplog.messages if 'in this test' in text]


class Switch(Hook):
    priority = 'HIGHEST'

    def before_test(self, runner):
        backbone = find_backbone(runner.model)
        backbone.selection = not backbone.selection


def test_a_test_that_differs_from_its_checkpoint_says_so(
    scenes, tmp_path, caplog
):
    make(scenes, tmp_path, begin=3, iters=4).train()
    path = tmp_path / 'iter_2.pth'

    def test(name, **options):
        return make(scenes, tmp_path / name, begin=3, **options)

    assert not warned(test('a', load_from=str(path)), caplog)
    assert not warned(test('b'), caplog)
    runner = test('c', load_from=str(path))
    runner.register_hook(Switch())
    (text,) = warned(runner, caplog)
    assert 'is on in this test, and off in the checkpoint' in text
    old = torch.load(path, weights_only=False)
    del old['state_dict']['backbone._extra_state']
    torch.save(old, path)
    (text,) = warned(test('d', load_from=str(path)), caplog)
    assert 'is on in this test, and unknown in the checkpoint' in text


@pytest.mark.parametrize(
    ('begin', 'options', 'message'),
    [
        (6, {}, 'begins at iteration 6, and this training has 6'),
        (200, {}, 'selection would never be on'),
        (0, {'by_epoch': True}, 'counts iterations, where epochs never'),
        (2 / 3, {'by_epoch': True}, 'counts iterations, where epochs never'),
    ],
)
def test_a_begin_that_never_comes_is_refused_before_training(
    scenes, tmp_path, begin, options, message
):
    runner = make(scenes, tmp_path, begin, **options)
    with pytest.raises(ValueError, match=message):
        runner.train()
    assert runner.iter == 0


def test_a_fraction_comes_in_the_shortest_of_trainings(scenes, tmp_path):
    watch = run(scenes, tmp_path, begin=0.9, iters=2)
    assert watch.train == {0: False, 1: True}


def test_an_epoch_that_never_comes_is_refused(scenes, tmp_path):
    loop = {'by_epoch': True, 'max_epochs': 2}
    loader = segmentation.dataloader(scenes, True)
    loader['sampler']['type'] = 'DefaultSampler'
    hooks = [{'type': 'mmscope.InformativeSelectionHook', 'by_epoch': True}]
    for begin, fits in ((2, False), (0.5, True)):
        hooks[0]['begin'] = begin
        runner = segmentation.runner(
            scenes,
            tmp_path / str(begin),
            segmentation.segmentor(),
            custom_hooks=[GATE, *hooks],
            train_cfg=loop,
            train_dataloader=loader,
            val_dataloader=None,
            val_cfg=None,
            val_evaluator=None,
        )
        if fits:
            runner.train()
            assert find_backbone(runner.model).selection
        else:
            with pytest.raises(ValueError, match='this training has 2'):
                runner.train()
