"""The metric on exits and costs that can be checked by hand."""

import json
from functools import cache

import pytest
import torch

from mmscope.analysis import SharedCostCounter, stage_costs
from mmscope.evaluation import EarlyExitMetric
from mmscope.models import (
    MambaScope,
    VisionMamba,
    at_threshold,
    observe,
)
from mmscope.models.layers import unwrap_model
from mmscope.models.scoping import ExitRecord

ARCH = {'embed_dims': 8, 'num_layers': 2}
GRID = (2, 3)
COARSE_TOKENS, FINE_TOKENS, REFINED = 7, 1 + 4 * 5 + 1, 5


@cache
def backbone(out_type='featmap'):
    return MambaScope(arch=dict(ARCH), img_size=64, out_type=out_type)


def record(exited, confidence=None):
    nothing = torch.zeros(len(exited), *GRID)
    return ExitRecord(
        grid=GRID,
        confidence=None if confidence is None else torch.tensor(confidence),
        exited=torch.tensor(exited),
        coarse_tokens=COARSE_TOKENS,
        regions_to_refine=torch.full((len(exited),), REFINED),
        importance=nothing,
        refined=nothing.bool(),
    )


class FixedCounter:
    """Stands in for SharedCostCounter: 1000 MACs since the last reset."""

    total = 0

    def reset(self):
        self.total = 1000

    def per_image(self, num_images):
        return self.total / num_images


def bound(**kwargs):
    metric, records = EarlyExitMetric(**kwargs), []
    metric.bind(backbone(), records=records)
    return metric, records


def batch(*names):
    return [{'img_path': name} for name in names]


def test_averages_are_over_images():
    metric, records = bound()
    records += [record([True, False, False])]
    metric.process(None, batch('a', 'b', 'c'))
    records += [record([True])]
    metric.process(None, batch('d'))
    found = metric.evaluate(size=4)
    costs = stage_costs(backbone(), GRID)
    assert found == {
        'early_exit/exit_ratio': 0.5,
        'early_exit/mean_tokens': COARSE_TOKENS + FINE_TOKENS / 2,
        'early_exit/mean_cost': pytest.approx(
            (costs.exited + costs.full) / 2e9, rel=1e-12
        ),
    }


def test_windows_and_views_are_summed():
    metric, records = bound()
    records += [
        record([True, False], [0.75, 0.5]),
        record([True, True], [1.0, 1.0]),
        record([False, False], [0.5, 0.0]),
    ]
    metric.process(None, batch('a', 'b'))
    found = metric.evaluate(size=2)
    first, second = metric.last_results
    assert found['early_exit/exit_ratio'] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert first.tokens == 3 * COARSE_TOKENS + FINE_TOKENS
    assert second.tokens == 3 * COARSE_TOKENS + 2 * FINE_TOKENS
    assert (first.confidence, second.confidence) == (0.75, 0.5)
    costs = stage_costs(backbone(), GRID)
    assert second.macs == costs.exited + 2 * costs.full


def test_neck_and_heads_are_shared_among_the_images_of_a_batch():
    metric, records = EarlyExitMetric(), []
    metric.bind(backbone(), FixedCounter(), records)
    records += [record([True, True, False, False])]
    metric.process(None, batch(*'abcd'))
    metric.evaluate(size=4)
    coarse = stage_costs(backbone(), GRID).exited
    assert metric.last_results[0].macs == coarse + 250


def test_records_of_one_batch_do_not_reach_the_next():
    metric, records = bound()
    for _ in range(2):
        records += [record([False])]
        metric.process(None, batch('a'))
    assert records == []
    assert metric.evaluate(size=2)['early_exit/mean_tokens'] == (
        COARSE_TOKENS + FINE_TOKENS
    )


def test_images_that_a_distributed_sampler_repeats_are_dropped():
    metric, records = bound()
    records += [record([True, False, False, False])]
    metric.process(None, batch(*'abca'))
    assert metric.evaluate(size=2)['early_exit/exit_ratio'] == 0.5


def test_exact_convention_costs_more():
    def cost(convention):
        metric, records = bound(convention=convention)
        records += [record([False])]
        metric.process(None, batch('a'))
        return metric.evaluate(size=1)['early_exit/mean_cost']

    assert cost('exact') > cost('paper')


def test_per_image_results_are_written(tmp_path):
    path = tmp_path / 'new' / 'exits.json'
    metric, records = bound(dump_path=str(path))
    records += [record([True, False], [0.9, 0.4])]
    metric.process(None, batch('a', 'b'))
    metric.evaluate(size=2)
    rows = json.loads(path.read_text())
    assert rows == [vars(image) for image in metric.last_results]
    assert [row['img_path'] for row in rows] == ['a', 'b']
    assert rows[1]['exited'] == 0


def test_results_that_cannot_be_written_cost_no_score(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(
        'mmscope.evaluation.record_metric.print_log',
        lambda text, *rest: said.append(text),
    )
    (tmp_path / 'file').touch()
    path = str(tmp_path / 'file' / 'exits.json')
    metric, records = bound(dump_path=path)
    records += [record([True, False], [0.9, 0.4])]
    metric.process(None, batch('a', 'b'))
    assert metric.evaluate(size=2)['early_exit/exit_ratio'] == 0.5
    assert f'dump_path {path} cannot be written' in said[0]
    assert len(metric.last_results) == 2


def test_unbound_metric_names_the_hook():
    with pytest.raises(RuntimeError, match='ConfidenceGateHook'):
        EarlyExitMetric().process(None, batch('a'))


def test_metric_without_records_says_how_to_observe():
    metric = EarlyExitMetric()
    metric.bind(backbone())
    with pytest.raises(RuntimeError, match=r'observe\(model\) as records'):
        metric.process(None, batch('a'))


def test_backbone_without_exits_is_refused():
    single = VisionMamba(arch=dict(ARCH), img_size=64)
    with pytest.raises(ValueError, match='VisionMamba has no early exit'):
        EarlyExitMetric().bind(single, records=[])


def test_what_was_recorded_before_is_not_counted():
    metric, records = EarlyExitMetric(), [record([True, True])]
    metric.bind(backbone(), records=records)
    records += [record([False])]
    metric.process(None, batch('a'))
    assert metric.evaluate(size=1)['early_exit/exit_ratio'] == 0


def test_records_of_other_images_are_refused():
    metric, records = bound()
    records += [record([True, False])]
    with pytest.raises(RuntimeError, match=r'\[2\] images, the batch has 1'):
        metric.process(None, batch('a'))


def test_missing_records_are_an_error():
    metric, _ = bound()
    with pytest.raises(RuntimeError, match='recorded no exit'):
        metric.process(None, batch('a'))


def test_unknown_convention_is_refused_when_built():
    with pytest.raises(ValueError, match="'both' is unknown"):
        EarlyExitMetric(convention='both')


def evaluate(model, batch, metric):
    """Run real forwards of one batch through the metric."""
    segmentor = unwrap_model(model)
    counting = SharedCostCounter(segmentor, segmentor.backbone)
    with torch.no_grad(), counting as counter, observe(model) as records:
        metric.bind(segmentor.backbone, counter, records)
        samples = model.test_step(batch)
        metric.process(batch, [sample.to_dict() for sample in samples])
    return metric.evaluate(len(samples))


def head_macs(grid):
    """FCNHead of the test model on a map of patches: 3 x 3 and 1 x 1."""
    return grid[0] * grid[1] * (16 * 16 * 9 + 16 * 4)


@pytest.mark.parametrize(('threshold', 'tokens'), [(0.0, 10), (2.0, 44)])
def test_sliding_windows_of_a_real_model(
    build_segmentor, make_loader, threshold, tokens
):
    from mmengine.config import ConfigDict

    model = build_segmentor(exit_threshold=threshold)
    model.test_cfg = ConfigDict(
        mode='slide', crop_size=(64, 64), stride=(32, 32)
    )
    metric = EarlyExitMetric()
    # 64 x 96 pixels are two windows of 64 x 64: 5 coarse tokens and, with
    # all 4 regions refined (0.8 * 4 rounds up), 17 fine ones.
    found = evaluate(model, make_loader(3)[0], metric)
    assert found['early_exit/mean_tokens'] == tokens
    assert found['early_exit/exit_ratio'] == (threshold == 0)
    costs = stage_costs(model.backbone, (2, 2))
    window = costs.exited if threshold == 0 else costs.full
    macs = 2 * (window + head_macs((4, 4)))
    assert found['early_exit/mean_cost'] == pytest.approx(macs / 1e9)


def test_an_image_counts_with_the_fraction_of_its_windows_that_exit(
    build_segmentor, make_loader
):
    from mmengine.config import ConfigDict

    model = build_segmentor(exit_threshold=2.0)
    model.test_cfg = ConfigDict(
        mode='slide', crop_size=(64, 64), stride=(32, 32)
    )
    batch = make_loader(1, batch_size=1)[0]
    with torch.no_grad(), observe(model) as records:
        model.test_step(batch)
    first, second = (float(record.confidence) for record in records)
    assert first != second
    with at_threshold(model, (first + second) / 2):
        found = evaluate(model, batch, EarlyExitMetric())
    assert found['early_exit/exit_ratio'] == 0.5
    assert found['early_exit/mean_tokens'] == 5 + 5 + 17


def test_views_of_test_time_augmentation(build_segmentor, make_loader):
    from mmseg.models import SegTTAModel

    model = build_segmentor(exit_threshold=0.0)
    views = make_loader(2, batch_size=2, size=(64, 96))[0]
    smaller = make_loader(2, batch_size=2, size=(32, 64))[0]
    both = {
        key: [views[key], smaller[key]] for key in ('inputs', 'data_samples')
    }
    for sample in smaller['data_samples']:
        # Augmented views are all resized to the original image.
        sample.set_metainfo({'ori_shape': (64, 96)})
    metric = EarlyExitMetric()
    found = evaluate(SegTTAModel(module=model), both, metric)
    assert found['early_exit/mean_tokens'] == 7 + 3
    macs = sum(
        stage_costs(model.backbone, (h, w)).exited + head_macs((2 * h, 2 * w))
        for h, w in [(2, 3), (1, 2)]
    )
    assert found['early_exit/mean_cost'] == pytest.approx(macs / 1e9)
    assert len(metric.last_results) == 2
