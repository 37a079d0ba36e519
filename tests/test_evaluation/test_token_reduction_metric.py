"""Tokens, directions and costs that can be checked by hand."""

from __future__ import annotations

import pytest
import torch
from builders.dyvm import ARCH, images, make, trained

from mmscope.evaluation import TokenReductionMetric
from mmscope.models import VisionMamba, forced_decisions, observe
from mmscope.models.layers import Record
from mmscope.models.reduction import ReductionStage
from mmscope.models.reduction.dyvm_modules import ScorePredictor

LENGTHS = [17, 12, 12, 8]


@pytest.fixture(scope='module')
def backbone():
    return make()


def record(*runs):
    """Of one image a list of directions a block, in four blocks."""
    policy = torch.tensor(runs).permute(1, 0, 2).bool()
    return Record(lengths=list(LENGTHS), directions=list(policy))


ALL = [[1, 1]] * 4
SOME = [[1, 1], [1, 0], [0, 1], [0, 0]]


def by_hand(backbone, run, share=1.0):
    """Patches, predictors of 16 and 11 patches, and blocks as they ran."""
    macs = backbone.embed_macs(16)
    macs += ScorePredictor.macs(16, 16) + ScorePredictor.macs(16, 11)
    for length, directions in zip(LENGTHS, run, strict=True):
        none = backbone.layer_macs(length, 0)
        one = backbone.layer_macs(length, 1) - none
        macs += none + share * sum(directions) * one
    return macs


def evaluate(backbone, records, count, **options):
    metric, found = TokenReductionMetric(**options), []
    metric.bind(backbone, records=found)
    found += records
    metric.process(None, [{'img_path': str(i)} for i in range(count)])
    return metric.evaluate(size=count), metric.last_results


@pytest.mark.parametrize(
    ('convention', 'share'), [('exact', 1), ('paper', 0.5)]
)
def test_averages_are_over_images(backbone, convention, share):
    found, images_ = evaluate(
        backbone, [record(ALL, SOME)], 2, convention=convention
    )
    assert found['token_reduction/mean_tokens'] == sum(LENGTHS) / 4
    assert found['token_reduction/mean_directions'] == (2 + 1) / 2
    first, second = (by_hand(backbone, run, share) for run in (ALL, SOME))
    assert images_[0].macs == first
    assert images_[1].macs == second
    assert found['token_reduction/mean_cost'] == pytest.approx(
        (first + second) / 2e9
    )


def test_exact_is_the_default(backbone):
    found, _ = evaluate(backbone, [record(SOME)], 1)
    assert found['token_reduction/mean_cost'] == pytest.approx(
        by_hand(backbone, SOME) / 1e9
    )


def test_windows_and_views_are_summed(backbone):
    found, _ = evaluate(backbone, [record(ALL), record(SOME)], 1)
    assert found['token_reduction/mean_tokens'] == 2 * sum(LENGTHS) / 4
    assert found['token_reduction/mean_directions'] == 1.5
    assert found['token_reduction/mean_cost'] == pytest.approx(
        (by_hand(backbone, ALL) + by_hand(backbone, SOME)) / 1e9
    )


def test_where_nothing_is_said_both_directions_ran(backbone):
    one = Record(lengths=list(LENGTHS), directions=[None] * 4)
    found, images_ = evaluate(backbone, [one], 3)
    assert found['token_reduction/mean_directions'] == 2.0
    assert images_[2].macs == by_hand(backbone, ALL)


def test_a_real_forward_costs_what_it_decided():
    # Whichever torch draws the weights, images run different numbers.
    model = trained(make(), seed=4)
    with torch.no_grad(), observe(model) as records:
        model(images())
    (one,) = records
    found, per_image = evaluate(model, [one], 4)
    runs = one.block_policy.permute(1, 0, 2).tolist()
    assert len({sum(map(sum, run)) for run in runs}) > 1
    for run, image in zip(runs, per_image, strict=True):
        assert image.macs == pytest.approx(by_hand(model, run))
    directions = one.block_policy.float().sum(-1).mean().item()
    assert found['token_reduction/mean_directions'] == pytest.approx(
        directions
    )


def test_a_batch_counts_as_its_images_one_by_one():
    model = trained(make())
    metric = TokenReductionMetric()
    with torch.no_grad(), observe(model) as records:
        metric.bind(model, records=records)
        model(images())
        metric.process(None, [{}] * 4)
        together = metric.evaluate(size=4)
        for image in images():
            model(image[None])
            metric.process(None, [{}])
    assert metric.evaluate(size=4) == pytest.approx(together)


def test_a_backbone_that_reduces_nothing_is_refused():
    with pytest.raises(ValueError, match='VisionMamba reduces no tokens'):
        TokenReductionMetric().bind(VisionMamba(arch=ARCH, img_size=64))


def test_records_of_other_images_are_refused(backbone):
    for other in (
        record(ALL, SOME),
        Record(
            lengths=list(LENGTHS),
            directions=[None] * 4,
            reductions=[ReductionStage(torch.zeros(2, 11).long())],
        ),
    ):
        with pytest.raises(RuntimeError, match=r'\[2\] images, the batch'):
            evaluate(backbone, [other], 3)


def test_missing_records_say_how_to_get_them(backbone):
    with pytest.raises(RuntimeError, match='TokenReductionHook'):
        TokenReductionMetric().process(None, [{}])
    with pytest.raises(RuntimeError, match='recorded no reduction'):
        evaluate(backbone, [], 1)


def test_forced_directions_are_what_is_counted():
    model = make()
    blocks = torch.zeros(4, 2, 2, dtype=torch.bool)
    with torch.no_grad(), observe(model) as records:
        with forced_decisions(model, blocks=blocks):
            model(images(2))
    found, _ = evaluate(model, list(records), 2)
    assert found['token_reduction/mean_directions'] == 0.0
