"""An interrupted training of a detector goes on where it was."""

import pytest
import torch
from builders import detection
from mmengine.hooks import Hook

pytest.importorskip('mmdet.models', reason='needs mmdet and mmcv.ops')


class Seed(Hook):
    """mmdet samples boxes at random; MMEngine stores no random state."""

    def __init__(self):
        self.iters = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        torch.manual_seed(runner.iter)
        self.iters.append(runner.iter)


def run(coco, work_dir, iters, **options):
    runner = detection.runner(
        coco,
        work_dir,
        detection.cascade(coarse_loss='detection'),
        train_cfg={'type': 'IterBasedTrainLoop', 'max_iters': iters},
        val_dataloader=None,
        val_cfg=None,
        val_evaluator=None,
        param_scheduler={
            'type': 'PolyLR',
            'by_epoch': False,
            'end': 4,
            'eta_min': 0,
        },
        custom_hooks=[
            {'type': 'mmscope.ConfidenceGateHook', 'exit_threshold': 0.8},
            {'type': 'mmscope.InformativeSelectionHook', 'begin': 1},
        ],
        **options,
    )
    seed = Seed()
    runner.register_hook(seed)
    runner.train()
    return runner, seed.iters


def test_an_interrupted_training_resumes_to_the_same_losses(coco, tmp_path):
    whole, _ = run(coco, tmp_path / 'whole', 4)
    run(coco, tmp_path / 'parts', 2)
    # What is not resumed begins with other weights.
    other = {'resume': True, 'randomness': {'seed': 1}}
    resumed, iters = run(coco, tmp_path / 'parts', 4, **other)
    assert iters == [2, 3]
    assert int(resumed.model.backbone.exit_head.num_updates) == 4
    assert resumed.model.backbone.selection
    for name in ('loss', 'lr', 'loss_exit_coarse', 'coarse_s0.loss_mask'):
        wanted, got = (
            runner.message_hub.get_scalar(f'train/{name}').data[0]
            for runner in (whole, resumed)
        )
        assert len(wanted) == 4
        assert len(set(wanted)) > 1
        assert got == pytest.approx(wanted, rel=1e-4), name
