from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from mmscope.benchmark.exits import forced_run
from mmscope.benchmark.gpu import graphs
from mmscope.benchmark.gpu.models import who_runs
from mmscope.benchmark.gpu.scale import CellPlan, full_scale, tiny_scale
from mmscope.benchmark.gpu.scope_graphs import ScopeGraphs
from mmscope.benchmark.gpu.training import losses
from mmscope.benchmark.models import build_scope, build_vim, cast
from mmscope.benchmark.subjects import Subject, Subjects

from .conftest import CPU

ARCH = dict(embed_dims=16, num_layers=2)


def broken(batch):
    raise RuntimeError('CUDA out of memory. Tried to allocate 9 GiB')


def test_one_who_fails_does_not_spoil_the_race():
    field = Subjects(
        [
            Subject('large', 'large', broken),
            Subject('small', 'small', lambda batch: lambda: None),
        ],
        {'absent': 'not installed'},
    )
    timed, skipped = who_runs(field, 4, CPU)
    assert [one.name for one in timed] == ['small']
    assert skipped['large'].startswith('out of memory: CUDA out of memory')
    assert skipped['absent'] == 'not installed'


def test_after_a_lost_recording_only_those_who_ran_race(monkeypatch):
    def refuse():
        raise RuntimeError('captures_underway.empty() INTERNAL ASSERT FAILED')

    monkeypatch.setattr(torch.cuda, 'empty_cache', refuse)
    cuda = SimpleNamespace(type='cuda')

    def loses(batch):
        graphs.process.lost = True
        raise RuntimeError('operation not permitted while capturing')

    def draws(batch):
        raise RuntimeError('Offset increment outside graph capture')

    subjects = [
        Subject('eager', 'eager', lambda batch: lambda: None),
        Subject('graph', 'graph', loses),
        Subject('next', 'next', draws),
    ]
    timed, skipped = who_runs(Subjects(subjects), 4, cuda)
    assert [one.name for one in timed] == ['eager']
    assert 'while capturing' in skipped['graph']
    assert skipped['next'] == graphs.AFTER_LOSS


@pytest.mark.parametrize('ratio', [0.0, 0.5, 1.0])
def test_graphs_of_the_branches_give_what_the_model_gives(ratio, monkeypatch):
    from mmscope.benchmark.gpu import scope_graphs

    # In float32: a branch under autocast rounds as its batch mates do.
    monkeypatch.setattr(
        scope_graphs,
        'casting',
        lambda device: torch.autocast(device.type, enabled=False),
    )
    torch.manual_seed(0)
    model = cast(build_scope(ARCH, 32), torch.float32, CPU)
    images = torch.randn(4, 3, 32, 32)
    found = {}

    def forward():
        with torch.no_grad():
            found['eager'] = model(images)

    forced_run(model.backbone, ratio, forward)()
    found['graphs'] = ScopeGraphs(model, images).gated(ratio)()
    torch.testing.assert_close(found['graphs'], found['eager'])


def test_single_images_take_turns():
    model = cast(build_scope(ARCH, 32), torch.float32, CPU)
    branches = ScopeGraphs(model, torch.randn(1, 3, 32, 32))
    fines = []
    fine = branches.prepare(1)
    branches._fines[1] = lambda *args: fines.append(1) or fine(*args)
    run = branches.gated(0.5)
    for _ in range(4):
        run()
    assert len(fines) == 2


@pytest.mark.parametrize('build', [build_vim, build_scope])
def test_training_losses_reach_every_stage(build):
    model = build(ARCH, 32).train()
    loss = losses(model, torch.randn(2, 3, 32, 32), torch.tensor([1, 2]))
    loss.backward()
    assert all(
        param.grad is not None
        for name, param in model.named_parameters()
        if 'exit_head' not in name
    )


def test_graphs_race_only_where_they_fit():
    plans = full_scale().cells
    assert CellPlan('small', 224, 64, graphs=True) in plans
    assert len({plan.name for plan in plans}) == len(plans)
    assert not any(plan.graphs and plan.batch > 64 for plan in plans)


def test_the_dry_run_has_every_kind_of_step():
    full, tiny = full_scale(), tiny_scale()
    assert {c.op for c in full.parity} == {c.op for c in tiny.parity}
    for name in ('graphs', 'compiled'):
        for scale in (full, tiny):
            assert any(getattr(plan, name) for plan in scale.cells)
