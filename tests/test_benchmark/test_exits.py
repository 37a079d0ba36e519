from __future__ import annotations

import pytest
import torch
from torch import nn

from mmscope.benchmark.exits import (
    ForcedGate,
    cycle_length,
    forced_confidence,
    forced_run,
)
from mmscope.benchmark.models import build_scope

TINY = dict(embed_dims=16, num_layers=2)


@pytest.fixture(scope='module')
def scope():
    """A dense MambaScope whose exit head was never trained."""
    torch.manual_seed(0)
    return build_scope(TINY, 64, neck='fpn').eval()


def exits(model, ratio, batch, forwards):
    """Images that exit in each of some forwards of the real model."""
    backbone = model.backbone
    backbone.exit_records = []
    images = torch.randn(batch, 3, 64, 64)

    def forward():
        with torch.no_grad():
            backbone(images)

    run = forced_run(backbone, ratio, forward)
    for _ in range(forwards):
        run()
    records, backbone.exit_records = backbone.exit_records, None
    return [int(record.exited.sum()) for record in records]


@pytest.mark.parametrize('ratio', [0.0, 0.25, 0.5, 0.75, 1.0])
def test_a_forced_ratio_really_exits_that_many_images(scope, ratio):
    refined = []
    fine = scope.backbone.forward_fine
    scope.backbone.forward_fine = lambda imgs, coarse: (
        refined.append(len(imgs)),
        fine(imgs, coarse),
    )[1]
    try:
        assert exits(scope, ratio, 8, 2) == [round(8 * ratio)] * 2
    finally:
        del scope.backbone.forward_fine
    # The others are gathered and refined, nobody else.
    going_on = 8 - round(8 * ratio)
    assert refined == [going_on] * 2 * (going_on > 0)


def test_single_images_alternate_so_that_the_ratio_is_met(scope):
    assert exits(scope, 0.5, 1, 4) == [0, 1, 0, 1]
    assert exits(scope, 0.25, 1, 4) == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ('ratio', 'batch', 'cycle'),
    [(0.5, 1, 2), (0.5, 8, 1), (0.25, 1, 4), (0.25, 2, 2), (1.0, 1, 1)],
)
def test_a_cycle_meets_the_ratio_exactly(ratio, batch, cycle):
    assert cycle_length(ratio, batch) == cycle
    assert (ratio * batch * cycle).is_integer()


def test_the_model_itself_still_refuses_an_untrained_gate(scope):
    exits(scope, 0.5, 2, 1)
    assert type(scope.backbone.gate) is not ForcedGate
    scope.backbone.exit_threshold = 0.5
    try:
        with pytest.raises(RuntimeError, match='never trained'):
            scope(torch.randn(1, 3, 64, 64))
    finally:
        scope.backbone.exit_threshold = None


def test_the_forced_gate_pays_for_the_head():
    class Head(nn.Module):
        calls = 0

        def confidence(self, cls):
            self.calls += 1
            return cls.sum(1)

    class Gate:
        head, kind = Head(), 'max_prob'

    gate = ForcedGate(Gate(), 0.5)
    assert gate.confidence(torch.randn(4, 2)).sum() == 2
    assert Gate.head.calls == 1


def test_who_exits_is_spread_over_the_batch():
    chosen = forced_confidence(16, 8, torch.device('cpu'))
    assert chosen.sum() == 8
    # Neither a slice nor every second image, which would gather too easily.
    assert len(set(chosen.nonzero().flatten().diff().tolist())) > 1


@pytest.mark.parametrize('ratio', [-0.1, 1.5])
def test_a_ratio_outside_its_range_is_refused(ratio):
    with pytest.raises(ValueError, match='fraction in'):
        cycle_length(ratio, 8)
