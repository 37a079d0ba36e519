"""Token reductions train and are counted in all three plain hosts."""

from __future__ import annotations

import json

import pytest
import torch
from builders.host_runs import HOSTS, classification, segmentation

from mmscope.analysis import stage_costs
from mmscope.engine import TokenReductionHook

HOOKS = [{'type': 'mmscope.TokenReductionHook'}]
DYVM = {'type': 'mmscope.DyVM', 'prune_layers': (1,)}
LOSSES = {'loss_token_ratio', 'loss_block_ratio'}


def reduced(host, tmp_path):
    """Make runners of a ViM with a reduction in a host."""
    make, options = host(tmp_path), {'type': 'mmscope.VisionMamba'}
    if host is segmentation:
        options['summary_position'] = 'none'

    def reduce(name, reduction, **runs):
        return make(name, {**options, 'reduction': reduction}, **runs)

    return reduce


def losses_of(runner):
    scalars = runner.message_hub.log_scalars
    return {k.removeprefix('train/') for k in scalars if 'loss' in k}


@HOSTS
def test_dyvm_trains_and_is_counted_in_a_plain_host(host, tmp_path):
    runner = reduced(host, tmp_path)('train', DYVM, custom_hooks=HOOKS)
    backbone = runner.model.backbone
    before = {k: v.clone() for k, v in backbone.named_parameters()}
    runner.train()
    assert runner.iter == 2
    assert losses_of(runner) >= LOSSES
    still = [
        name
        for name, param in backbone.named_parameters()
        if torch.equal(param, before[name])
    ]
    assert still == []
    # The hook leaves the model as it was.
    assert not runner.model._forward_hooks
    metrics = runner.test()
    found = {
        key.removeprefix('token_reduction/'): value
        for key, value in metrics.items()
        if key.startswith('token_reduction/')
    }
    assert set(found) == {'mean_tokens', 'mean_directions', 'mean_cost'}
    assert found['mean_directions'] == 2.0


@HOSTS
def test_dyvm_without_the_hook_does_not_train(host, tmp_path):
    runner = reduced(host, tmp_path)('train', DYVM, custom_hooks=[])
    with pytest.raises(RuntimeError, match='TokenReductionHook'):
        runner.train()


def test_counted_costs_are_the_closed_form_where_all_runs(tmp_path):
    make = reduced(classification, tmp_path)
    evaluator = [
        {'type': 'Accuracy'},
        {
            'type': 'mmscope.TokenReductionMetric',
            'convention': 'paper',
            'dump_path': str(tmp_path / 'images.json'),
        },
    ]
    reduction = {**DYVM, 'block_keep_ratio': 1.0}
    runner = make(
        'test', reduction, custom_hooks=HOOKS, test_evaluator=evaluator
    )
    metrics = runner.test()
    backbone = runner.model.backbone
    # At the start all directions run, as at a ratio of 1.
    macs = stage_costs(backbone, backbone.grid).fine + 16 * 3
    assert metrics['token_reduction/mean_cost'] == pytest.approx(macs / 1e9)
    # 16 patches and cls, then int(0.7 * 16).
    assert metrics['token_reduction/mean_tokens'] == (17 + 3 * 12) / 4
    images = json.loads((tmp_path / 'images.json').read_text())
    assert len(images) == 12
    assert images[0]['macs'] == macs


def test_hidden_align_and_r_meeto_need_the_hook_for_counting_alone(tmp_path):
    make = reduced(classification, tmp_path)
    for kind in ('HiddenAlign', 'RMeeTo'):
        reduction = {'type': f'mmscope.{kind}'}
        if kind == 'HiddenAlign':
            reduction['prune_layers'] = (1,)
        runner = make(kind, reduction, custom_hooks=HOOKS)
        runner.train()
        assert losses_of(runner) == {'loss'}
        metrics = runner.test()
        lengths = runner.model.backbone.reduction.lengths(
            runner.model.backbone, 16
        )
        assert lengths[-1] < 17
        found = metrics['token_reduction/mean_tokens']
        assert found == pytest.approx(sum(lengths) / 4)
        assert metrics['token_reduction/mean_directions'] == 2.0


def test_a_model_that_reduces_nothing_is_refused(tmp_path):
    runner = reduced(classification, tmp_path)(
        'plain', None, custom_hooks=HOOKS
    )
    with pytest.raises(ValueError, match='reduces no tokens'):
        runner.test()


def test_two_forwards_a_step_are_an_error(tmp_path):
    from mmengine.hooks import Hook

    class Twice(Hook):
        """Runs the backbone once more in each step."""

        priority = 'LOWEST'

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            runner.model.backbone(torch.zeros(1, 3, 64, 64))

    runner = reduced(classification, tmp_path)(
        'train', DYVM, custom_hooks=HOOKS
    )
    runner.register_hook(Twice())
    with pytest.raises(RuntimeError, match='one forward of the backbone'):
        runner.train()


def test_an_average_of_the_model_is_tested_beside_it(tmp_path):
    hooks = [*HOOKS, {'type': 'EMAHook', 'momentum': 0.5}]
    runner = reduced(classification, tmp_path)(
        'train', DYVM, custom_hooks=hooks
    )
    runner.train()
    assert runner.message_hub.get_scalar('val/token_reduction/mean_cost')
    assert any(type(h) is TokenReductionHook for h in runner.hooks)
