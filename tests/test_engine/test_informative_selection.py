import pytest
from builders import segmentation
from mmengine.hooks import Hook

from mmscope.engine import InformativeSelectionHook
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


def run(scenes, tmp_path, begin, resume=False, iters=6, **hook):
    selection = {
        'type': 'mmscope.InformativeSelectionHook',
        'begin': begin,
        **hook,
    }
    runner = segmentation.runner(
        scenes,
        tmp_path,
        segmentation.segmentor(),
        iters=iters,
        custom_hooks=[GATE, selection],
        resume=resume,
        train_cfg={
            'type': 'IterBasedTrainLoop',
            'max_iters': iters,
            'val_interval': 2,
        },
    )
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
    run(scenes, tmp_path / 'b', begin=5, iters=4)
    watch = run(scenes, tmp_path / 'b', begin=5, iters=6, resume=True)
    assert watch.train == {4: False, 5: True}


@pytest.mark.parametrize('begin', [-1, 1.0, 1.5, -0.5])
def test_a_begin_out_of_range_is_refused(begin):
    with pytest.raises(ValueError, match='begin must be an int >= 0'):
        InformativeSelectionHook(begin)
