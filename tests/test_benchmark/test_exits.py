from __future__ import annotations

import pytest
import torch

from mmscope.benchmark.exits import (
    ForcedGate,
    cycle_length,
    forced_confidence,
    forced_run,
)
from mmscope.benchmark.gpu.scale import TINY
from mmscope.benchmark.models import build_scope
from mmscope.models import at_threshold, observe
from mmscope.models.scoping import ExitHeadGate, HostGate


@pytest.fixture(scope='module')
def scope():
    """A dense MambaScope whose exit head was never trained."""
    torch.manual_seed(0)
    return build_scope(TINY, 64, neck='fpn').eval()


def exits(*args):
    """Images that exit in each forward, see :func:`seen`."""
    return [int(record.exited.sum()) for record in seen(*args)]


def seen(model, ratio, batch, forwards):
    """Records of some forwards of the real model."""
    images = torch.randn(batch, 3, 64, 64)

    def forward():
        with torch.no_grad():
            model.backbone(images)

    run = forced_run(model.backbone, ratio, forward)
    with observe(model) as records:
        for _ in range(forwards):
            run()
    return records


@pytest.mark.parametrize('ratio', [0.0, 0.25, 0.5, 0.75, 1.0])
def test_a_forced_ratio_really_exits_that_many_images(scope, ratio):
    records = seen(scope, ratio, 8, 2)
    assert len(records) == 2
    for record in records:
        assert record.exited.sum() == round(8 * ratio)
        # The others are gathered and refined, nobody else.
        assert (record.refined.flatten(1).any(1) == ~record.exited).all()
        assert bool(record.fine_lengths) == (ratio < 1)


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
    assert scope.backbone.exit_threshold is None
    with (
        at_threshold(scope, 0.5),
        pytest.raises(RuntimeError, match='never trained'),
    ):
        scope(torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize(
    ('neck', 'kind'), [('fpn', ExitHeadGate), ('none', HostGate)]
)
def test_the_forced_gate_pays_for_the_head(neck, kind):
    own = build_scope(TINY, 64, neck).backbone.gate
    assert type(own) is kind
    calls = []
    own.head.register_forward_hook(lambda *_: calls.append(1))
    gate = ForcedGate(own, 0.5)
    assert (gate.head, gate.kind) == (own.head, own.kind)
    cls = torch.randn(4, 16)
    assert gate.confidence(cls, torch.randn(4, 4, 16)).sum() == 2
    assert len(calls) == 1
    assert torch.equal(gate.logits(cls), own.logits(cls))


def test_who_exits_is_spread_over_the_batch():
    chosen = forced_confidence(16, 8, torch.device('cpu'))
    assert chosen.sum() == 8
    # Neither a slice nor every second image, which would gather too easily.
    assert len(set(chosen.nonzero().flatten().diff().tolist())) > 1


@pytest.mark.parametrize('ratio', [-0.1, 1.5])
def test_a_ratio_outside_its_range_is_refused(ratio):
    with pytest.raises(ValueError, match='fraction in'):
        cycle_length(ratio, 8)
